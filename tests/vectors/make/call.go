package main

// touched is one call as a service is about to do it; parameters is JSON text.
type touched struct{ id, action, kind, resource, set, tenant, parameters string }

// canonical returns the canonical form of the call: every member is there, also an empty one.
func (t touched) canonical() string {
	resource := object{"type": t.kind}
	if t.resource != "" {
		resource["id"] = t.resource
	} else {
		resource["set"] = t.set
	}
	return canonical(object{
		"v": 1, "action": t.action, "resource": resource, "tenant": t.tenant, "parameters": parse(t.parameters).(object),
	})
}

func callVectors() pairs {
	calls := []touched{
		{"refund", "order.refund", "order", "1234", "", "retail", `{"currency": "EUR", "amount": 1250}`},
		{"without-parameters", "order.cancel", "order", "1234", "", "retail", `{}`},
		{"another-tenant", "order.cancel", "order", "1234", "", "wholesale", `{}`},
		{"amount-as-text", "order.refund", "order", "1234", "", "retail", `{"amount": "1250", "currency": "EUR"}`},
		{"of-a-set", "order.list", "order", "", "open-orders", "retail", `{"limit": 20}`},
		{"beyond-ascii", "order.refund", "order", "Zoë/№ 7 😀", "", "emea/retail",
			`{"😀": [-1], "\ufb33": [true, "€", [], {"b": 1, "a": ""}]}`},
	}
	var accepted []pairs
	for _, each := range calls {
		form := each.canonical()
		accepted = append(accepted, pairs{
			"id", each.id, "action", each.action, "resource", pairs{"type", each.kind, "id", each.resource, "set", each.set},
			"tenant", each.tenant, "parameters", each.parameters, "canonical", form, "digest", digest([]byte(form)),
		})
	}
	return pairs{"format", "docs/formats/call.md", "accepted", accepted}
}
