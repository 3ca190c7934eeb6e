package main

import "strings"

const (
	agent      = "spiffe://example.org/agent/support"
	operator   = "spiffe://example.org/operator/security"
	audience   = "spiffe://example.org/service/orders"
	taskID     = "task_019a8e3c-0000-7000-8000-000000000002"
	credential = "cred_019a8e3c-0000-7000-8000-000000000001"
	txnID      = "txn_019a8e3c-0000-7000-8000-000000000003"
	decisionID = "dec_019a8e3c-0000-7000-8000-000000000004"
	revokeID   = "rev_019a8e3c-0000-7000-8000-000000000005"
	overrideID = "ovr_019a8e3c-0000-7000-8000-000000000006"
	requestID  = "req_019a8e3c-0000-7000-8000-000000000006"
)

// asked is an intent as an agent sends it; an empty member was not sent.
type asked struct {
	action, kind, id, set, parameters, purpose, audience, task, onBehalfOf, sensitivity, risk string
	// padding is how many spaces follow the parameters, so that a vector at the limit of size stays short.
	padding int
}

func lookup() asked {
	return asked{action: "order.read", kind: "order", id: "1234", purpose: "support", audience: audience}
}

func refund() asked {
	a := lookup()
	a.action, a.task, a.onBehalfOf = "order.refund", taskID, "Customer 42, by phone"
	a.parameters, a.sensitivity, a.risk = `{"amount": 1250, "currency": "EUR"}`, "moderate", "high"
	return a
}

func sending(parameters string) asked {
	a := lookup()
	a.parameters = parameters
	return a
}

// members returns the one object whose canonical form is the intent's.
func (a asked) members() object {
	resource := object{"type": a.kind}
	for name, value := range map[string]string{"id": a.id, "set": a.set} {
		if value != "" {
			resource[name] = value
		}
	}
	members := object{"v": 1, "resource": resource}
	for name, value := range map[string]string{
		"action": a.action, "purpose": a.purpose, "audience": a.audience, "task": a.task,
		"on_behalf_of": a.onBehalfOf, "sensitivity": a.sensitivity, "risk": a.risk,
	} {
		if value != "" {
			members[name] = value
		}
	}
	if a.parameters != "" {
		if parsed := parse(a.parameters).(object); len(parsed) > 0 {
			members["parameters"] = parsed
		}
	}
	return members
}

// ordered returns the same members in an order in which a program may have them; none when nothing was asked.
func (a asked) ordered() pairs {
	shown := pairs{}
	if a == (asked{}) {
		return shown
	}
	members := a.members()
	for _, name := range []string{
		"v", "action", "resource", "parameters", "purpose", "audience", "task", "on_behalf_of", "sensitivity", "risk",
	} {
		if value, found := members[name]; found {
			shown = append(shown, name, value)
		}
	}
	return shown
}

func (a asked) shown() pairs {
	return pairs{
		"action", a.action, "resource", pairs{"type", a.kind, "id", a.id, "set", a.set},
		"parameters", a.parameters, "padding", a.padding, "purpose", a.purpose, "audience", a.audience,
		"task", a.task, "on_behalf_of", a.onBehalfOf, "sensitivity", a.sensitivity, "risk", a.risk,
	}
}

func nested(depth int) string {
	return `{"a":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + "}"
}

func elements(count int) string { // one member and count-1 elements in it
	return `{"a":[` + strings.TrimSuffix(strings.Repeat("1,", count-1), ",") + "]}"
}

func intentVectors() pairs {
	return pairs{
		"format", "docs/formats/intent.md",
		"accepted", acceptedIntents(),
		"refused", append(refusedParameters(), refusedMembers()...),
	}
}

func acceptedIntents() []pairs {
	const limit = 32 * 1024
	ofSet, ended, levels := lookup(), lookup(), lookup()
	ofSet.id, ofSet.set = "", "public-orders"
	ended.parameters, ended.padding = `{"a":1}`, limit-len(`{"a":1}`)
	levels.sensitivity, levels.risk = "low", "low"
	named := lookup()
	named.id, named.onBehalfOf = "Zoë/№ 7 “x” 😀", "Zoë"
	longest := lookup()
	longest.id, longest.action = strings.Repeat("é", 128), "a"+strings.Repeat("b", 127)
	unassigned := lookup()
	unassigned.id = "a\U0002FFF0b" // assigned in no version of Unicode yet: whether it is must not matter
	rows := []struct {
		id    string
		asked asked
	}{
		{"least", lookup()},
		{"all-members", refund()},
		{"declared-set", ofSet},
		{"lowest-levels", levels},
		{"unicode-id", named},
		{"longest-names", longest},
		{"id-not-yet-assigned", unassigned},
		{"empty-object-is-left-out", sending("{}")},
		{"blanks-do-not-count", sending(" { \"b\" : [ 1 , true ] ,\r\n\t\"a\" : { } } ")},
		{"order-by-utf-16", sending(`{"\ufb33":1,"\ud83d\ude00":2,"\u20ac":3,"a":4,"B":5,"":6}`)},
		{"escapes", sending(`{"a":"\u0041\/\u001f\u007f\u2028\b\f\n\r\t\"\\<>&"}`)},
		{"not-normalised", sending(`{"a":"\u00e9","b":"e\u0301"}`)},
		{"empty-values-stay", sending(`{"a":"","b":{},"c":[],"d":false,"e":0}`)},
		{"largest-integers", sending(`{"a":9007199254740991,"b":-9007199254740991}`)},
		{"deepest", sending(nested(16))},
		{"brackets-in-text-do-not-nest", sending(`{"a":"[[[[[[[[[[[[[[[[[[[[\"[[[["}`)},
		{"most-elements", sending(elements(512))},
		{"largest-text", ended},
	}
	var vectors []pairs
	for _, row := range rows {
		form := canonical(row.asked.members())
		vectors = append(vectors, pairs{
			"id", row.id, "intent", row.asked.shown(), "canonical", form, "digest", digest([]byte(form)),
		})
	}
	return vectors
}

func refusedIntent(id string, a asked, reason string) pairs {
	return pairs{"id", id, "intent", a.shown(), "reason", reason}
}

func refusedParameters() []pairs {
	const (
		syntax = "INTENT_PARAMETERS_SYNTAX"
		number = "INTENT_PARAMETERS_NUMBER"
		size   = "INTENT_PARAMETERS_SIZE"
		text   = "INTENT_PARAMETERS_TEXT"
		twice  = "INTENT_PARAMETERS_DUPLICATE"
		null   = "INTENT_PARAMETERS_NULL"
	)
	hidden := `{"a":"` + strings.Repeat("]", 200) + `","b":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}"
	rows := [][3]string{
		{"only-blanks", " ", syntax}, {"array", "[]", syntax}, {"text", `"a"`, syntax}, {"integer", "1", syntax},
		{"bare-null", "null", syntax}, {"two-objects", "{}{}", syntax}, {"trailing-comma", `{"a":1,}`, syntax},
		{"single-quotes", "{'a':1}", syntax}, {"comment", `{"a":1/**/}`, syntax}, {"unquoted-name", "{a:1}", syntax},
		{"leading-zero", `{"a":01}`, syntax}, {"plus", `{"a":+1}`, syntax}, {"hexadecimal", `{"a":0x1}`, syntax},
		{"raw-line-end-in-text", "{\"a\":\"\n\"}", syntax}, {"bad-escape", `{"a":"\x41"}`, syntax},
		{"byte-order-mark", "\ufeff{}", syntax}, {"no-break-space", "{\u00a0}", syntax}, {"cut-off", `{"a":1`, syntax},
		{"arabic-digit", "{\"a\":\u0661}", syntax}, {"capital-true", `{"a":True}`, syntax},
		{"fraction", `{"a":1.5}`, number}, {"whole-fraction", `{"a":1.0}`, number}, {"exponent", `{"a":1e2}`, number},
		{"minus-zero", `{"a":-0}`, number}, {"not-a-number", `{"a":NaN}`, number}, {"infinity", `{"a":-Infinity}`, number},
		{"beyond-2-53", `{"a":9007199254740992}`, number}, {"below-2-53", `{"a":-9007199254740992}`, number},
		{"many-digits", `{"a":` + strings.Repeat("9", 400) + "}", number},
		{"null-member", `{"a":null}`, null}, {"null-element", `{"a":[{"b":[null]}]}`, null},
		{"name-twice", `{"a":1,"a":1}`, twice}, {"name-twice-escaped", `{"a":1,"\u0061":2}`, twice},
		{"name-twice-deep", `{"a":[{"b":1,"b":2}]}`, twice},
		{"lone-high-surrogate", `{"a":"\ud800"}`, text}, {"lone-low-surrogate", `{"a":["\udc00x"]}`, text},
		{"lone-surrogate-in-name", `{"\ud800":1}`, text}, {"surrogates-swapped", `{"a":"\ude00\ud83d"}`, text},
		{"one-too-deep", nested(17), size}, {"one-element-too-many", elements(513), size},
		{"depth-hidden-behind-brackets-in-text", hidden, size},
	}
	var vectors []pairs
	for _, row := range rows {
		vectors = append(vectors, refusedIntent(row[0], sending(row[1]), row[2]))
	}
	long := sending(`{"a":1}`)
	long.padding = 32*1024 - len(long.parameters) + 1
	return append(vectors, refusedIntent("one-byte-too-long", long, size))
}

func refusedMembers() []pairs {
	const name, resource = "INTENT_NAME_INVALID", "INTENT_RESOURCE_INVALID"
	rows := []struct {
		id, reason string
		change     func(*asked)
	}{
		{"action-empty", name, func(a *asked) { a.action = "" }},
		{"action-capital", name, func(a *asked) { a.action = "Order.read" }},
		{"action-leading-dot", name, func(a *asked) { a.action = ".read" }},
		{"action-wildcard", name, func(a *asked) { a.action = "order.*" }},
		{"action-line-end", name, func(a *asked) { a.action = "order.read\n" }},
		{"action-fullwidth", name, func(a *asked) { a.action = "order.re\uff41d" }},
		{"action-129-long", name, func(a *asked) { a.action = strings.Repeat("a", 129) }},
		{"purpose-empty", name, func(a *asked) { a.purpose = "" }},
		{"purpose-blank", name, func(a *asked) { a.purpose = "customer support" }},
		{"resource-type-capital", name, func(a *asked) { a.kind = "Order" }},
		{"resource-set-wildcard", name, func(a *asked) { a.id, a.set = "", "*" }},
		{"audience-url", name, func(a *asked) { a.audience = "https://orders.example.org/" }},
		{"audience-without-path", name, func(a *asked) { a.audience = "spiffe://example.org" }},
		{"audience-trailing-slash", name, func(a *asked) { a.audience = audience + "/" }},
		{"audience-capital-domain", name, func(a *asked) { a.audience = "spiffe://Example.org/service/orders" }},
		{"audience-query", name, func(a *asked) { a.audience = audience + "?a=b" }},
		{"audience-dot-segment", name, func(a *asked) { a.audience = "spiffe://example.org/service/../orders" }},
		{"audience-2049-long", name, func(a *asked) { a.audience = audience + strings.Repeat("a", 2049-len(audience)) }},
		{"on-behalf-of-line-end", name, func(a *asked) { a.onBehalfOf = "a\nb" }},
		{"on-behalf-of-257-bytes", name, func(a *asked) { a.onBehalfOf = strings.Repeat("a", 257) }},
		{"resource-id-and-set", resource, func(a *asked) { a.set = "public-orders" }},
		{"resource-neither", resource, func(a *asked) { a.id = "" }},
		{"resource-id-257-bytes", resource, func(a *asked) { a.id = strings.Repeat("é", 128) + "a" }},
		{"resource-id-nul", resource, func(a *asked) { a.id = "1\x00" }},
		{"resource-id-tab", resource, func(a *asked) { a.id = "1\t2" }},
		{"resource-id-delete", resource, func(a *asked) { a.id = "1\x7f" }},
		{"resource-id-c1-control", resource, func(a *asked) { a.id = "1\u0085" }},
		{"resource-id-no-break-space", resource, func(a *asked) { a.id = "1\u00a02" }},
		{"resource-id-soft-hyphen", resource, func(a *asked) { a.id = "12\u00ad34" }},
		{"resource-id-zero-width", resource, func(a *asked) { a.id = "12\u200b34" }},
		{"resource-id-right-to-left", resource, func(a *asked) { a.id = "12\u202e34" }},
		{"resource-id-line-separator", resource, func(a *asked) { a.id = "12\u202834" }},
		{"resource-id-wide-space", resource, func(a *asked) { a.id = "12\u300034" }},
		{"resource-id-byte-order-mark", resource, func(a *asked) { a.id = "\ufeff1234" }},
		{"resource-id-private-use", resource, func(a *asked) { a.id = "\ue000" }},
		{"resource-id-no-character", resource, func(a *asked) { a.id = "\uffff" }},
		{"resource-id-tag-character", resource, func(a *asked) { a.id = "1\U000e0041" }},
		{"task-of-another-kind", "TASK_UNKNOWN", func(a *asked) { a.task = "cred_" + taskID[5:] }},
		{"task-too-short", "TASK_UNKNOWN", func(a *asked) { a.task = taskID[:40] }},
		{"task-capital", "TASK_UNKNOWN", func(a *asked) { a.task = strings.ToUpper(taskID) }},
	}
	var vectors []pairs
	for _, row := range rows {
		a := lookup()
		row.change(&a)
		vectors = append(vectors, refusedIntent(row.id, a, row.reason))
	}
	return vectors
}
