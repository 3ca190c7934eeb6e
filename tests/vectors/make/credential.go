package main

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	issuer = "https://broker.example.org"
	now    = 1795262400 // 2026-11-21T12:00:00Z
)

// grant is what a token carries.
type grant struct {
	id, credential, tenant, task, kind, resource, set, digest string
	actions                                                   []string
	parameters                                                object
	index, issued, expires                                    int
}

func statusURI(issuer, audience string) string {
	hash := sha256.Sum256([]byte(audience))
	return issuer + "/status/" + base64url(hash[:])
}

func grants() []grant {
	of := func(a asked) string { return digest([]byte(canonical(a.members()))) }
	return []grant{
		{"refund", credential, "retail", taskID, "order", "1234", "", of(refund()), []string{"order.refund"},
			object{"amount": object{"min": 1, "max": 5000}, "currency": list{"EUR"}}, 7, now, now + 300},
		{"lookup-without-task", credential, "retail", "", "order", "1234", "", of(lookup()), []string{"order.read"},
			object{}, 0, now, now + 1},
		{"declared-set", credential, "retail", "", "order", "", "public-orders", of(lookup()), []string{"order.list", "order.read"},
			object{"limit": object{"max": 100}, "since": object{"min": -5}}, 1<<32 - 1, now - 100, now + 200},
		{"beyond-ascii", credential, "emea/retail", taskID, "order", "Zoë/№ 7 😀", "", of(refund()), []string{"order.refund"},
			object{"\ufb33": list{1, true, "€", list{}, object{"b": 1, "a": ""}}, "😀": list{-1}}, 8, now, now + 300},
	}
}

func (g grant) claims() object {
	detail := object{
		"type": "broker.v1.intent", "actions": texts(g.actions), "locations": list{audience}, "datatypes": list{g.kind},
		"parameters": g.parameters,
	}
	if g.resource != "" {
		detail["identifier"] = g.resource
	} else {
		detail["set"] = g.set
	}
	claims := object{
		"iss": issuer, "sub": agent, "client_id": agent, "aud": audience, "iat": g.issued, "nbf": g.issued,
		"exp": g.expires, "jti": g.credential, "tenant": g.tenant, "txn": txnID, "authorization_details": list{detail},
		"intent": g.digest, "use": "many", "cnf": object{"x5t#S256": leafThumbprint()},
		"status": object{"status_list": object{"idx": g.index, "uri": statusURI(issuer, audience)}},
	}
	if g.task != "" {
		claims["task"] = g.task
	}
	return claims
}

func texts(values []string) list {
	shown := list{}
	for _, value := range values {
		shown = append(shown, value)
	}
	return shown
}

func header(key p256Key) object {
	return object{"alg": "ES256", "kid": key.thumbprint(), "typ": "at+jwt"}
}

// jws returns the compact serialisation of any header and payload; what refuses must refuse more than a bad signature.
func jws(header, payload string, key p256Key) string {
	input := base64url([]byte(header)) + "." + base64url([]byte(payload))
	return input + "." + base64url(key.sign([]byte(input), true))
}

func credentialVectors() pairs {
	key := tokenKey()
	var accepted []pairs
	for _, each := range grants() {
		head, payload := canonical(header(key)), canonical(each.claims())
		token := jws(head, payload, key)
		input := token[:strings.LastIndex(token, ".")]
		accepted = append(accepted, pairs{
			"id", each.id,
			"grant", pairs{
				"credential_id", each.credential, "agent", agent, "tenant", each.tenant, "task", each.task,
				"transaction_id", txnID, "actions", each.actions,
				"resource", pairs{"type", each.kind, "id", each.resource, "set", each.set},
				"parameters", each.parameters, "audience", audience, "intent_digest", each.digest,
				"thumbprint", leafThumbprint(), "status_index", each.index, "issued_at", each.issued, "expires_at", each.expires,
			},
			"header", head, "claims", payload,
			"signature", hex.EncodeToString(key.sign([]byte(input), true)),
			"signature_as_signed", signedForm(key, input),
			"token", token, "token_digest", digest([]byte(token)),
		})
	}
	return pairs{
		"format", "docs/formats/credential.md",
		"issuer", issuer, "audience", audience, "now", now, "jwks", jwks(key.jwk()),
		"accepted", accepted,
		"accepted_only", leewayTokens(),
		"refused", append(append(refusedForms(), refusedClaims()...), refusedContexts()...),
	}
}

// signedForm is the signature as RFC 6979 gives it, whose s may be high; a minter brings it into the other form.
func signedForm(key p256Key, input string) string {
	r, s := key.signRaw([]byte(input))
	return hex.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// leewayTokens are valid, though no broker mints them like this: claims at the edge of the validator's leeway.
func leewayTokens() []pairs {
	key, claims := tokenKey(), grants()[0].claims()
	ahead := with(with(claims, "nbf", now+5), "iat", now+5)
	once := with(claims, "use", "once")
	return []pairs{
		{"id", "not-before-5-seconds-ahead", "token", jws(canonical(header(key)), canonical(ahead), key)},
		{"id", "use-once-verifies", "token", jws(canonical(header(key)), canonical(once), key)},
		{"id", "members-in-another-order", "token", jws(
			`{"typ": "at+jwt", "kid": "`+key.thumbprint()+`", "alg": "ES256"}`, canonical(claims), key)},
	}
}

func refusedToken(id, token, reason string) pairs {
	return pairs{"id", id, "token", token, "reason", reason}
}

func refusedForms() []pairs {
	key, other := tokenKey(), otherKey()
	head, payload := canonical(header(key)), canonical(grants()[0].claims())
	good := jws(head, payload, key)
	parts := strings.Split(good, ".")
	headed := func(h object) string { return jws(canonical(h), payload, key) }
	raw := func(h, p string) string { return jws(h, p, key) }
	signed := func(signature []byte) string { return parts[0] + "." + parts[1] + "." + base64url(signature) }
	signature := key.sign([]byte(parts[0]+"."+parts[1]), true)
	zero := make([]byte, 64)
	const malformed, bad = "TOKEN_MALFORMED", "TOKEN_SIGNATURE_INVALID"
	changed := strings.Replace(payload, `"tenant":"retail"`, `"tenant":"wholes"`, 1)
	require(changed != payload, "a changed payload")
	return []pairs{
		refusedToken("empty", "", malformed),
		refusedToken("two-parts", parts[0]+"."+parts[1], malformed),
		refusedToken("four-parts", good+".", malformed),
		refusedToken("no-signature", parts[0]+"."+parts[1]+".", malformed),
		refusedToken("padded", good+"==", malformed),
		refusedToken("blank-in-front", " "+good, malformed),
		refusedToken("line-end-behind", good+"\n", malformed),
		refusedToken("beyond-ascii", good+"é", malformed),
		refusedToken("last-bits-set", good[:len(good)-1]+nextLetter(good[len(good)-1]), malformed),
		refusedToken("base64-alphabet", parts[0]+"."+base64alphabet(parts[1])+"."+parts[2], malformed),
		refusedToken("longer-than-16-kib", jws(head, "{"+strings.Repeat(" ", 12*1024)+payload[1:], key), malformed),
		refusedToken("alg-none", base64url([]byte(`{"alg":"none","typ":"at+jwt"}`))+"."+parts[1]+".", malformed),
		refusedToken("alg-hs256", headed(with(header(key), "alg", "HS256")), malformed),
		refusedToken("alg-missing", headed(without(header(key), "alg")), malformed),
		refusedToken("typ-jwt", headed(with(header(key), "typ", "JWT")), malformed),
		refusedToken("typ-with-prefix", headed(with(header(key), "typ", "application/at+jwt")), malformed),
		refusedToken("typ-missing", headed(without(header(key), "typ")), malformed),
		refusedToken("kid-missing", headed(without(header(key), "kid")), malformed),
		refusedToken("kid-a-path", headed(with(header(key), "kid", "../../key")), malformed),
		refusedToken("jwk-in-header", headed(with(header(key), "jwk", other.jwk())), malformed),
		refusedToken("crit-in-header", headed(with(header(key), "crit", list{"exp"})), malformed),
		refusedToken("header-name-twice", raw(strings.Replace(head, `"typ"`, `"alg":"ES256","typ"`, 1), payload), malformed),
		refusedToken("header-a-list", raw("[]", payload), malformed),
		refusedToken("payload-not-json", raw(head, "x"), malformed),
		refusedToken("payload-a-list", raw(head, "["+payload+"]"), malformed),
		refusedToken("payload-fraction", raw(head, strings.Replace(payload, `"exp":`, `"exp":0.5,"x":`, 1)), malformed),
		refusedToken("payload-name-twice", raw(head, `{"sub":"`+agent+`",`+payload[1:]), malformed),
		refusedToken("payload-blank-behind", raw(head, payload+" "), malformed),
		refusedToken("payload-not-utf-8", raw(head, "{\"a\":\"\xff\"}"), malformed),
		refusedToken("payload-nested-25-deep", raw(head, `{"a":`+strings.Repeat("[", 24)+strings.Repeat("]", 24)+"}"), malformed),
		refusedToken("signature-63-bytes", signed(signature[:63]), malformed),
		refusedToken("signature-65-bytes", signed(append(append([]byte{}, signature...), 0)), malformed),
		refusedToken("key-of-another-set", jws(canonical(header(other)), payload, other), "TOKEN_KEY_UNKNOWN"),
		refusedToken("signed-by-another-key", jws(head, payload, other), bad),
		refusedToken("payload-changed", parts[0]+"."+base64url([]byte(changed))+"."+parts[2], bad),
		refusedToken("s-in-the-upper-half", signed(key.sign([]byte(parts[0]+"."+parts[1]), false)), bad),
		refusedToken("r-and-s-zero", signed(zero), bad),
		refusedToken("r-and-s-exchanged", signed(append(append([]byte{}, signature[32:]...), signature[:32]...)), bad),
	}
}

// base64alphabet replaces a letter of the one alphabet by that of the other; the text has to have one.
func base64alphabet(text string) string {
	changed := strings.NewReplacer("-", "+", "_", "/").Replace(text)
	if changed == text {
		changed = "+" + text[1:]
	}
	return changed
}

func refusedClaims() []pairs {
	key, claims := tokenKey(), grants()[0].claims()
	minted := func(c object) string { return jws(canonical(header(key)), canonical(c), key) }
	var vectors []pairs
	add := func(id string, c object) {
		vectors = append(vectors, refusedToken(id, minted(c), "TOKEN_CLAIMS_REFUSED"))
	}
	for _, name := range []string{
		"iss", "sub", "client_id", "aud", "iat", "nbf", "exp", "jti", "tenant", "txn", "authorization_details", "intent",
		"use", "cnf", "status",
	} {
		add(name+"-missing", without(claims, name))
	}
	rows := []struct {
		id, claim string
		value     any
	}{
		{"unknown-claim", "scope", "order.refund"}, {"reserved-act", "act", object{"sub": agent}},
		{"reserved-may-act", "may_act", object{"sub": agent}},
		{"aud-a-list", "aud", list{audience}}, {"aud-without-path", "aud", "spiffe://example.org"},
		{"sub-dot-segment", "sub", "spiffe://example.org/./agent"}, {"client-id-of-another", "client_id", operator},
		{"iss-blank", "iss", issuer + " x"}, {"iss-empty", "iss", ""},
		{"exp-a-text", "exp", "1795262700"}, {"exp-true", "exp", true}, {"exp-beyond-year-9999", "exp", 253402300800},
		{"iat-negative", "iat", -1}, {"exp-is-nbf", "exp", now}, {"nbf-after-exp", "nbf", now + 301},
		{"jti-without-prefix", "jti", credential[5:]}, {"jti-capital", "jti", "cred_019A8E3C-0000-7000-8000-000000000001"},
		{"jti-line-end", "jti", credential + "\n"}, {"tenant-capital", "tenant", "Retail"}, {"tenant-empty", "tenant", ""},
		{"task-empty", "task", ""}, {"task-of-another-kind", "task", credential}, {"txn-of-another-kind", "txn", decisionID},
		{"intent-without-algorithm", "intent", strings.Repeat("A", 43)}, {"intent-short", "intent", "sha-256:" + strings.Repeat("A", 42)},
		{"use-twice", "use", "twice"}, {"cnf-empty", "cnf", object{}}, {"cnf-a-text", "cnf", leafThumbprint()},
		{"cnf-jkt-too", "cnf", object{"x5t#S256": leafThumbprint(), "jkt": tokenKey().thumbprint()}},
		{"cnf-jkt-alone", "cnf", object{"jkt": tokenKey().thumbprint()}},
		{"status-uri-of-another-audience", "status", status(7, statusURI(issuer, agent))},
		{"status-negative", "status", status(-1, statusURI(issuer, audience))},
		{"status-2-32", "status", status(1<<32, statusURI(issuer, audience))},
		{"status-a-text", "status", status("7", statusURI(issuer, audience))},
		{"status-true", "status", status(true, statusURI(issuer, audience))},
		{"details-none", "authorization_details", list{}},
		{"details-an-object", "authorization_details", claims["authorization_details"].(list)[0]},
		{"details-two", "authorization_details", append(claims["authorization_details"].(list), claims["authorization_details"].(list)[0])},
	}
	for _, row := range rows {
		add(row.id, with(claims, row.claim, row.value))
	}
	null := strings.Replace(canonical(claims), `"tenant":"retail"`, `"tenant":null`, 1)
	vectors = append(vectors, refusedToken("tenant-null", jws(canonical(header(key)), null, key), "TOKEN_CLAIMS_REFUSED"))
	for _, each := range refusedDetails(claims["authorization_details"].(list)[0].(object)) {
		add(each.id, with(claims, "authorization_details", list{each.detail}))
	}
	return vectors
}

func status(index any, uri string) object {
	return object{"status_list": object{"idx": index, "uri": uri}}
}

func refusedContexts() []pairs {
	key, claims := tokenKey(), grants()[0].claims()
	minted := func(c object) string { return jws(canonical(header(key)), canonical(c), key) }
	const elsewhere = "https://broker.example.net"
	from := with(with(claims, "iss", elsewhere), "status", status(7, statusURI(elsewhere, audience)))
	const other = "spiffe://example.org/service/customers"
	detail := with(claims["authorization_details"].(list)[0].(object), "locations", list{other})
	towards := with(with(claims, "aud", other), "status", status(7, statusURI(issuer, other)))
	early := "TOKEN_NOT_YET_VALID"
	return []pairs{
		refusedToken("of-another-issuer", minted(from), "TOKEN_ISSUER_REFUSED"),
		refusedToken("for-another-audience", minted(with(towards, "authorization_details", list{detail})), "TOKEN_AUDIENCE_REFUSED"),
		refusedToken("over-this-very-second", minted(with(with(with(claims, "iat", now-300), "nbf", now-300), "exp", now)), "TOKEN_EXPIRED"),
		refusedToken("not-before-6-seconds-ahead", minted(with(claims, "nbf", now+6)), early),
		refusedToken("issued-6-seconds-ahead", minted(with(claims, "iat", now+6)), early),
	}
}
