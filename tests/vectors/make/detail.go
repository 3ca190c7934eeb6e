package main

type namedDetail struct {
	id     string
	detail object
}

func refusedDetails(good object) []namedDetail {
	limited := func(value any) object { return with(good, "parameters", object{"amount": value}) }
	return []namedDetail{
		{"detail-of-another-type", with(good, "type", "payment")},
		{"detail-with-privileges", with(good, "privileges", list{"admin"})},
		{"detail-without-parameters", without(good, "parameters")},
		{"detail-identifier-and-set", with(good, "set", "public-orders")},
		{"detail-neither-identifier-nor-set", without(good, "identifier")},
		{"detail-identifier-empty", with(good, "identifier", "")},
		{"detail-identifier-zero-width", with(good, "identifier", "12\u200b34")},
		{"detail-set-wildcard", with(without(good, "identifier"), "set", "*")},
		{"detail-for-another-location", with(good, "locations", list{agent})},
		{"detail-two-locations", with(good, "locations", list{audience, audience})},
		{"detail-no-action", with(good, "actions", list{})},
		{"detail-actions-out-of-order", with(good, "actions", list{"order.refund", "order.read"})},
		{"detail-action-twice", with(good, "actions", list{"order.read", "order.read"})},
		{"detail-action-wildcard", with(good, "actions", list{"*"})},
		{"detail-two-datatypes", with(good, "datatypes", list{"order", "customer"})},
		{"detail-no-value-allowed", limited(list{})},
		{"detail-no-bound", limited(object{})},
		{"detail-unknown-bound", limited(object{"max": 5, "step": 1})},
		{"detail-bound-true", limited(object{"max": true})},
		{"detail-bound-a-text", limited(object{"max": "5"})},
		{"detail-bound-beyond-2-53", limited(object{"max": 1 << 53})},
		{"detail-limit-a-text", limited("EUR")},
		{"detail-value-beyond-2-53", limited(list{1 << 53})},
	}
}
