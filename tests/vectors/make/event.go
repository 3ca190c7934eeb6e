package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// caller, decision and indexes are the parts of an event that several types share.
type caller struct{ spiffeID, login, source, request, trace string }

type decision struct {
	id       string
	policies []string
	bundle   string
}

type indexes map[string][][2]int

// field is one member of an event as a program has it, before it is flattened.
type field struct {
	name  string
	value any
}

type event struct {
	id, kind string
	fields   []field
}

type opening struct {
	field, value string
	salt         []byte
}

// sealed is an event as it is stored: exact bytes, and the openings beside them.
type sealed struct {
	content  string
	openings []opening
}

// personal lists the members that stand behind a commitment.
const personal = " parameters on_behalf_of intent_digest source text detail conversation problem person approved_by asked trail call_digest reference rolled_back_by "

// flat returns the members by name in the order in which salts are drawn; empty ones are left out.
func (e event) flat() []field {
	var members []field
	add := func(name string, value any) {
		switch v := value.(type) {
		case string:
			if v == "" {
				return
			}
		case object:
			if len(v) == 0 {
				return
			}
		}
		members = append(members, field{name, value})
	}
	for _, each := range e.fields {
		switch v := each.value.(type) {
		case caller:
			add("spiffe_id", v.spiffeID)
			add("login", v.login)
			add("source", v.source)
			add("request", v.request)
			add("trace", v.trace)
		case decision:
			policies := list{}
			for _, id := range v.policies {
				policies = append(policies, id)
			}
			add("decision", object{"id": v.id, "policies": policies, "bundle": v.bundle})
		case asked:
			if v == (asked{}) {
				continue
			}
			members := v.members()
			add("intent", without(without(members, "parameters"), "on_behalf_of"))
			for _, name := range []string{"parameters", "on_behalf_of"} {
				if held, found := members[name]; found {
					add(name, held)
				}
			}
		case indexes:
			byAudience := object{}
			for audience, ranges := range v {
				shown := list{}
				for _, each := range ranges {
					shown = append(shown, list{each[0], each[1]})
				}
				byAudience[audience] = shown
			}
			add(each.name, byAudience)
		case nil:
		default:
			add(each.name, v)
		}
	}
	return members
}

func (o opening) commitment() string {
	return digest(append(append([]byte{}, o.salt...), o.value...))
}

func (e event) seal() sealed {
	members, commitments := object{"v": 1, "type": e.kind}, object{}
	var result sealed
	for _, each := range e.flat() {
		if !strings.Contains(personal, " "+each.name+" ") {
			members[each.name] = each.value
			continue
		}
		opened := opening{each.name, canonical(each.value), seed("salt " + e.id + " " + each.name)}
		commitments[each.name] = opened.commitment()
		result.openings = append(result.openings, opened)
	}
	if len(commitments) > 0 {
		members["commitments"] = commitments
	}
	result.content = canonical(members)
	return result
}

func leafHash(content string) []byte {
	hash := sha256.Sum256([]byte("\x00" + content))
	return hash[:]
}

// at returns the time of the event with this number.
func at(number int) string { return fmt.Sprintf("2026-11-21T12:00:%02d.%06dZ", number, number*7) }

func callers() (caller, caller) {
	return caller{agent, "x509", "ipv4:192.0.2.7:40112", requestID, "0af7651916cd43dd8448eb211c80319c"},
		caller{operator, "x509", "ipv6:%5B2001:db8::7%5D:51000", requestID, ""}
}

func events() []event {
	by, from := callers()
	bundle := digest([]byte("a bundle"))
	permit := decision{decisionID, []string{"refund-small", "support-reads"}, bundle}
	manage := decision{decisionID, []string{"operators-revoke"}, bundle}
	deny := decision{decisionID, []string{"refunds-are-limited"}, bundle}
	intent := func(a asked) string { return digest([]byte(canonical(a.members()))) }
	token := digest([]byte("a token"))
	const end = "2026-11-21T12:05:00.000000Z"
	return []event{
		{"broker-started", "broker.started", []field{
			{"at", at(0)}, {"spiffe_id", "spiffe://example.org/broker"}, {"version", "0.1.0"}}},
		{"policy-activated", "policy.activated", []field{{"at", at(1)}, {"bundle", bundle}}},
		{"key-changed", "key.changed", []field{
			{"at", at(2)}, {"use", "token"}, {"kid", tokenKey().thumbprint()}, {"state", "current"}}},
		{"task-begun", "task.begun", []field{
			{"at", at(3)}, {"caller", by}, {"decided", permit}, {"tenant", "retail"}, {"task", taskID},
			{"purpose", "support"}, {"conversation", "chat 77"}, {"deadline", "2026-11-21T13:00:00.000000Z"}}},
		{"credential-granted", "credential.granted", []field{
			{"at", at(4)}, {"caller", by}, {"intent", refund()}, {"intent_digest", intent(refund())}, {"decided", permit},
			{"tenant", "retail"}, {"task", taskID}, {"transaction", txnID}, {"credential", credential},
			{"token_digest", token}, {"audience", audience}, {"status_index", 7}, {"expires_at", end}}},
		{"credential-granted-index-0", "credential.granted", []field{
			{"at", at(5)}, {"caller", by}, {"intent", lookup()}, {"intent_digest", intent(lookup())}, {"decided", permit},
			{"tenant", "retail"}, {"task", ""}, {"transaction", txnID}, {"credential", credential},
			{"token_digest", token}, {"audience", audience}, {"status_index", 0}, {"expires_at", end}}},
		{"credential-reissued", "credential.reissued", []field{
			{"at", at(6)}, {"caller", by}, {"intent_digest", intent(refund())}, {"tenant", "retail"}, {"task", taskID},
			{"transaction", txnID}, {"credential", credential}, {"token_digest", token}}},
		{"exchange-refused", "exchange.refused", []field{
			{"at", at(7)}, {"caller", by}, {"intent", refund()}, {"intent_digest", intent(refund())}, {"decided", deny},
			{"tenant", "retail"}, {"task", taskID}, {"transaction", txnID}, {"reason", "POLICY_FORBIDDEN"}, {"detail", ""}}},
		{"exchange-refused-not-understood", "exchange.refused", []field{
			{"at", at(8)}, {"caller", by}, {"intent", asked{}}, {"intent_digest", ""}, {"decided", nil}, {"tenant", ""},
			{"task", ""}, {"transaction", txnID}, {"reason", "INTENT_NAME_INVALID"}, {"detail", "action"}}},
		{"request-refused-unknown-caller", "request.refused", []field{
			{"at", at(9)}, {"caller", caller{source: "ipv4:192.0.2.9:1", request: requestID}}, {"operation", "exchange"},
			{"reason", "SVID_EXPIRED"}, {"detail", "Zoë said “no”\n"}, {"decided", nil}}},
		{"request-refused-without-policy", "request.refused", []field{
			{"at", at(10)}, {"caller", from}, {"operation", "revoke"}, {"reason", "POLICY_NOT_PERMITTED"}, {"detail", ""},
			{"decided", decision{id: decisionID}}}},
		{"refusals-suppressed", "refusals.suppressed", []field{
			{"at", at(11)}, {"source", "ipv4:192.0.2.9:1"}, {"reason", "SVID_EXPIRED"}, {"count", 290}}},
		{"revocation-made", "revocation.made", []field{
			{"at", at(12)}, {"caller", from}, {"decided", manage}, {"revocation", revokeID}, {"rule", "agent"},
			{"name", agent}, {"tenant", "retail"}, {"text", "key left in a log"}, {"revoked", 5},
			{"status_indexes", indexes{audience: {{0, 0}, {7, 9}}, "spiffe://example.org/service/customers": {{3, 3}}}}}},
		{"revocation-made-of-nothing", "revocation.made", []field{
			{"at", at(13)}, {"caller", from}, {"decided", manage}, {"revocation", revokeID}, {"rule", "tenant"},
			{"name", "retail"}, {"tenant", "retail"}, {"text", ""}, {"revoked", 0}, {"status_indexes", indexes{}}}},
		{"revocation-lifted", "revocation.lifted", []field{
			{"at", at(14)}, {"caller", from}, {"decided", manage}, {"revocation", revokeID}, {"tenant", "retail"},
			{"text", "new key is in place"}}},
		{"task-ended", "task.ended", []field{
			{"at", at(15)}, {"caller", by}, {"decided", permit}, {"tenant", "retail"}, {"task", taskID}, {"agent", agent},
			{"cause", "ended"}, {"revoked", 1}, {"status_indexes", indexes{audience: {{12, 12}}}}}},
		{"task-ended-by-deadline", "task.ended", []field{
			{"at", at(16)}, {"caller", caller{}}, {"decided", nil}, {"tenant", "retail"}, {"task", taskID},
			{"agent", agent}, {"cause", "deadline"}, {"revoked", 0}, {"status_indexes", indexes{}}}},
		{"policy-rejected", "policy.rejected", []field{
			{"at", at(17)}, {"problem", "entities.json: agent/support stands twice"}}},
		{"stream-opened-at-0", "stream.opened", []field{
			{"at", at(18)}, {"caller", from}, {"decided", manage}, {"stream", "audit"}, {"position", 0}}},
	}
}

// approvalEvents are those of held requests, and of what ends or uses them.
func approvalEvents() []event {
	by, from := callers()
	const approval = "appr_0190a0a0-0000-7000-8000-000000000009"
	manage := decision{decisionID, []string{"approvers-answer"}, digest([]byte("a bundle"))}
	permit := decision{decisionID, []string{"refund-large"}, digest([]byte("a bundle"))}
	intent := digest([]byte(canonical(refund().members())))
	of := []field{{"tenant", "retail"}, {"task", taskID}, {"agent", agent}, {"approval", approval}}
	with := func(before []field, after ...field) []field {
		return append(append(append([]field{}, before...), of...), after...)
	}
	said := func(second int) []field {
		return []field{{"at", at(second)}, {"caller", from}, {"decided", manage}}
	}
	until := "2026-11-21T12:20:00.000000Z"
	return []event{
		{"approval-requested", "approval.requested", []field{
			{"at", at(40)}, {"caller", by}, {"intent", refund()}, {"intent_digest", intent}, {"decided", permit},
			{"tenant", "retail"}, {"task", taskID}, {"transaction", txnID}, {"approval", approval},
			{"requirements", list{object{"kind": "group", "group": "refund-approvers", "quorum": 2, "pending_for": "PT15M",
				"good_for": "PT5M"}}},
			{"pending_until", until}, {"replaces", "appr_0190a0a0-0000-7000-8000-000000000008"},
			{"trail", object{"prompt_reference": "message 12"}}}},
		{"approval-approved", "approval.approved", with(said(41), field{"person", "lead-of-refunds"}, field{"by_token", true},
			field{"approvals", 2}, field{"complete", true}, field{"usable_until", until})},
		{"approval-approved-by-the-first-of-two", "approval.approved", with(said(42), field{"person", "lead-of-refunds"},
			field{"by_token", false}, field{"approvals", 1}, field{"complete", false}, field{"usable_until", nil})},
		{"approval-bypass", "approval.bypass", with(said(43), field{"person", "lead-of-refunds"},
			field{"action", "order.refund"}, field{"resource_type", "order"}, field{"audience", audience},
			field{"until", until})},
		{"approval-denied", "approval.denied", with(said(44), field{"person", "lead-of-refunds"}, field{"was", "pending"},
			field{"text", "call the customer first"})},
		{"approval-withdrawn", "approval.withdrawn", with([]field{{"at", at(45)}, {"caller", by}}, field{"was", "approved"},
			field{"text", "another subject"})},
		{"approval-expired", "approval.expired", with([]field{{"at", at(46)}}, field{"was", "pending"})},
		{"approval-escalated", "approval.escalated", with([]field{{"at", at(47)}}, field{"group", "duty"})},
		{"credential-granted-on-an-approval", "credential.granted", []field{
			{"at", at(48)}, {"caller", by}, {"intent", refund()}, {"intent_digest", intent}, {"decided", permit},
			{"tenant", "retail"}, {"task", taskID}, {"transaction", txnID}, {"credential", credential},
			{"token_digest", digest([]byte("a token"))}, {"audience", audience}, {"status_index", 9},
			{"expires_at", until}, {"approval", approval}, {"approved_by", list{"lead-of-refunds", "deputy-of-refunds"}}}},
		{"credential-granted-by-a-bypass", "credential.granted", []field{
			{"at", at(49)}, {"caller", by}, {"intent", refund()}, {"intent_digest", intent}, {"decided", permit},
			{"tenant", "retail"}, {"task", taskID}, {"transaction", txnID}, {"credential", credential},
			{"token_digest", digest([]byte("a token"))}, {"audience", audience}, {"status_index", 10},
			{"expires_at", until}, {"bypass", approval}}},
		{"exchange-refused-while-people-decide", "exchange.refused", []field{
			{"at", at(50)}, {"caller", by}, {"intent", refund()}, {"intent_digest", intent}, {"decided", permit},
			{"tenant", "retail"}, {"task", taskID}, {"transaction", txnID}, {"reason", "STEP_UP_REQUIRED"},
			{"detail", ""}, {"approval", approval}}},
		{"task-narrowed-with-its-approvals", "task.narrowed", []field{
			{"at", at(51)}, {"caller", from}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID},
			{"agent", agent}, {"boundary", object{"actions": list{"order.read"}}}, {"text", ""}, {"revoked", 0},
			{"status_indexes", indexes{}}, {"approvals", list{approval}}}},
		{"task-ended-with-its-approvals", "task.ended", []field{
			{"at", at(52)}, {"caller", by}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID}, {"agent", agent},
			{"cause", "ended"}, {"revoked", 0}, {"status_indexes", indexes{}}, {"text", ""},
			{"approvals", list{approval}}}},
		{"revocation-made-with-approvals", "revocation.made", []field{
			{"at", at(53)}, {"caller", from}, {"decided", manage}, {"revocation", "rev_0190a0a0-0000-7000-8000-000000000009"},
			{"rule", "agent"}, {"name", agent}, {"tenant", "retail"}, {"text", ""}, {"revoked", 0},
			{"status_indexes", indexes{}}, {"approvals", list{approval}}}},
		{"override-imposed-with-approvals", "override.imposed", []field{
			{"at", at(54)}, {"caller", from}, {"decided", manage}, {"override", overrideID}, {"rule", "agent"},
			{"name", agent}, {"tenant", "retail"}, {"text", "stop"}, {"revoked", 0}, {"status_indexes", indexes{}},
			{"approvals", list{approval}}}},
	}
}

// laterEvents are those that came after the vectors of the log were first made; that log stays as it is.
func laterEvents() []event {
	by, from := callers()
	service := caller{"spiffe://example.org/service/orders", "x509", "ipv4:192.0.2.8:40112", requestID, ""}
	const use, report = "0190a0a0-0000-7000-8000-000000000001", "0190a0a0-0000-7000-8000-000000000002"
	called, usedAt := digest([]byte("a call")), "2026-11-21T11:59:58.000000Z"
	trail := object{"prompt_reference": "message 12", "prompt_digest": digest([]byte("refund it")),
		"tool_call_reference": "call_1", "tool_call_digest": digest([]byte("refund_order(1234)"))}
	intent := digest([]byte(canonical(refund().members())))
	manage := decision{decisionID, []string{"security-rotates"}, digest([]byte("a bundle"))}
	next := nextCheckpointKey()
	permit := decision{decisionID, []string{"refund-small"}, digest([]byte("a bundle"))}
	narrow := object{"actions": list{"order.refund"}, "resources": list{object{"type": "order", "id": "1234"}},
		"limits": object{"order.refund": object{"amount": object{"max": 4200}}}}
	return []event{
		{"key-changed-next-checkpoint-key", "key.changed", []field{
			{"at", at(19)}, {"use", "checkpoint"}, {"kid", tokenKey().thumbprint()}, {"state", "next"},
			{"key", next.verifier()}, {"note", endorsement(next, checkpointKey())}}},
		{"keys-rotated", "keys.rotated", []field{
			{"at", at(20)}, {"caller", from}, {"decided", manage}, {"use", "token"}, {"cause", "asked"},
			{"kid", otherKey().thumbprint()}, {"replaced", tokenKey().thumbprint()}, {"text", ""}}},
		{"keys-rotated-in-an-emergency", "keys.rotated", []field{
			{"at", at(21)}, {"caller", from}, {"decided", manage}, {"use", "token"}, {"cause", "emergency"},
			{"kid", otherKey().thumbprint()}, {"replaced", tokenKey().thumbprint()}, {"text", "the disk was read"}}},
		{"request-refused-of-a-tenant", "request.refused", []field{
			{"at", at(22)}, {"caller", from}, {"operation", "revoke"}, {"reason", "TENANT_REFUSED"}, {"detail", ""},
			{"decided", nil}, {"tenant", "retail"}}},
		{"refusals-suppressed-of-a-tenant", "refusals.suppressed", []field{
			{"at", at(23)}, {"source", "spiffe://example.org/agent/support"}, {"reason", "TASK_UNKNOWN"}, {"count", 12},
			{"tenant", "retail"}}},
		{"override-imposed", "override.imposed", []field{
			{"at", at(22)}, {"caller", from}, {"decided", manage}, {"override", overrideID}, {"rule", "class"},
			{"name", "write"}, {"tenant", "retail"}, {"text", "refunds nobody asked for"}, {"revoked", 2},
			{"status_indexes", indexes{audience: {{7, 8}}}}}},
		{"override-imposed-without-a-bundle", "override.imposed", []field{
			{"at", at(23)}, {"caller", from}, {"decided", decision{id: decisionID}}, {"override", overrideID},
			{"rule", "everything"}, {"name", ""}, {"tenant", ""}, {"text", "stop"}, {"revoked", 0},
			{"status_indexes", indexes{}}}},
		{"override-lifted", "override.lifted", []field{
			{"at", at(24)}, {"caller", from}, {"decided", manage}, {"override", overrideID}, {"tenant", "retail"},
			{"imposed_by", "spiffe://example.org/operator/duty"}, {"text", "fixed"}}},
		{"task-begun-by-a-front-end", "task.begun", []field{
			{"at", at(25)}, {"caller", from}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID},
			{"purpose", "support"}, {"conversation", ""}, {"deadline", "2026-11-21T13:00:00.000000Z"}, {"agent", agent},
			{"task_type", "customer-case"}, {"boundary", narrow}, {"heartbeat", 30}, {"person", "Customer 42"},
			{"asked", digest([]byte("refund order 1234"))}}},
		{"task-narrowed", "task.narrowed", []field{
			{"at", at(26)}, {"caller", from}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID}, {"agent", agent},
			{"boundary", narrow}, {"text", "another subject"}, {"revoked", 1},
			{"status_indexes", indexes{audience: {{12, 12}}}}}},
		{"task-judged", "task.judged", []field{
			{"at", at(27)}, {"caller", from}, {"tenant", "retail"}, {"task", taskID}, {"agent", agent},
			{"bundle", digest([]byte("a bundle"))}, {"reasons", list{"POLICY_FORBIDDEN", "TASK_BOUNDARY_EXCEEDED"}},
			{"revoked", 2}, {"status_indexes", indexes{audience: {{12, 13}}}}}},
		{"task-cancelled", "task.ended", []field{
			{"at", at(28)}, {"caller", from}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID},
			{"agent", agent}, {"cause", "cancelled"}, {"revoked", 0}, {"status_indexes", indexes{}},
			{"text", "the customer hung up"}}},
		{"credential-redeemed", "credential.redeemed", []field{
			{"at", at(29)}, {"caller", caller{audience, "x509", "ipv4:192.0.2.8:40113", requestID, ""}},
			{"decided", decision{decisionID, []string{"services-redeem"}, digest([]byte("a bundle"))}},
			{"tenant", "retail"}, {"task", taskID}, {"transaction", txnID}, {"credential", credential}, {"agent", agent},
			{"call_digest", digest([]byte("a call"))}}},
		{"request-refused-of-a-redemption", "request.refused", []field{
			{"at", at(30)}, {"caller", caller{audience, "x509", "ipv4:192.0.2.8:40113", requestID, ""}},
			{"operation", "redeem"}, {"reason", "CREDENTIAL_SPENT"}, {"detail", ""}, {"decided", nil},
			{"tenant", "retail"}, {"task", taskID}, {"credential", credential}, {"agent", agent}}},
		{"credential-granted-under-limits", "credential.granted", []field{
			{"at", at(29)}, {"caller", by}, {"intent", refund()}, {"intent_digest", digest([]byte(canonical(refund().members())))},
			{"decided", permit}, {"tenant", "retail"}, {"task", taskID}, {"transaction", txnID},
			{"credential", credential}, {"token_digest", digest([]byte("a token"))}, {"audience", audience},
			{"status_index", 8}, {"expires_at", "2026-11-21T12:05:00.000000Z"},
			{"charged", list{object{"policy": "refund-small", "per": "task"}, object{"policy": "refund-small", "per": "day"}}}}},
		{"credential-granted-with-its-trail", "credential.granted", []field{
			{"at", at(29)}, {"caller", by}, {"intent", refund()}, {"intent_digest", intent}, {"decided", manage},
			{"tenant", "retail"}, {"task", taskID}, {"transaction", txnID}, {"credential", credential},
			{"token_digest", digest([]byte("a token"))}, {"audience", audience}, {"status_index", 7},
			{"expires_at", "2026-11-21T12:05:00.000000Z"}, {"trail", trail}}},
		{"exchange-refused-with-its-trail", "exchange.refused", []field{
			{"at", at(30)}, {"caller", by}, {"intent", refund()}, {"intent_digest", intent}, {"decided", nil},
			{"tenant", "retail"}, {"task", taskID}, {"transaction", txnID}, {"reason", "TASK_BOUNDARY_EXCEEDED"},
			{"detail", ""}, {"trail", trail}}},
		{"usage-accepted", "usage.accepted", []field{
			{"at", at(31)}, {"caller", service}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID},
			{"agent", agent}, {"transaction", txnID}, {"credential", credential}, {"use", use}, {"used_at", usedAt},
			{"call_digest", called}}},
		{"usage-refused", "usage.refused", []field{
			{"at", at(32)}, {"caller", service}, {"decided", manage}, {"tenant", "retail"}, {"task", ""},
			{"agent", agent}, {"transaction", txnID}, {"credential", credential}, {"report", report},
			{"used_at", usedAt}, {"reason", "TOKEN_HOLDER_MISMATCH"},
			{"presented_by", "spiffe://example.org/agent/thief"}, {"call_digest", ""}}},
		{"outcome-reported-done", "outcome.reported", []field{
			{"at", at(33)}, {"caller", service}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID},
			{"agent", agent}, {"transaction", txnID}, {"credential", credential}, {"use", use}, {"report", report},
			{"used_at", usedAt}, {"outcome", "done"}, {"reference", "refund-77"}, {"rolled_back_by", ""},
			{"call_digest", called}, {"revoked", nil}, {"status_indexes", indexes{}}}},
		{"outcome-reported-failed", "outcome.reported", []field{
			{"at", at(34)}, {"caller", service}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID},
			{"agent", agent}, {"transaction", txnID}, {"credential", credential}, {"use", use}, {"report", report},
			{"used_at", usedAt}, {"outcome", "failed"}, {"revoked", 1}, {"status_indexes", indexes{audience: {{7, 7}}}}}},
		{"outcome-reported-rolled-back", "outcome.reported", []field{
			{"at", at(35)}, {"caller", service}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID},
			{"agent", agent}, {"transaction", txnID}, {"credential", credential}, {"use", use}, {"report", report},
			{"used_at", usedAt}, {"outcome", "rolled_back"}, {"reference", "refund-77"},
			{"rolled_back_by", "clerk 9"}}},
		{"reports-dropped", "reports.dropped", []field{
			{"at", at(36)}, {"caller", service}, {"decided", manage}, {"report", report}, {"count", 12}}},
		{"task-drifted", "task.drifted", []field{
			{"at", at(37)}, {"caller", by}, {"tenant", "retail"}, {"task", taskID}, {"agent", agent},
			{"task_type", "customer-case"}, {"reasons", list{"TASK_BOUNDARY_EXCEEDED"}}, {"refusals", 3},
			{"within", 600}, {"suspended", true}, {"revoked", 1}, {"status_indexes", indexes{audience: {{12, 12}}}},
			{"approvals", list{"appr_0190a0a0-0000-7000-8000-000000000009"}}}},
		{"task-drifted-and-goes-on", "task.drifted", []field{
			{"at", at(38)}, {"caller", by}, {"tenant", "retail"}, {"task", taskID}, {"agent", agent},
			{"task_type", "customer-case"}, {"reasons", list{"TASK_BOUNDARY_EXCEEDED"}}, {"refusals", 3},
			{"within", 600}, {"suspended", false}, {"revoked", 0}, {"status_indexes", indexes{}}}},
		{"task-resumed", "task.resumed", []field{
			{"at", at(39)}, {"caller", from}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID},
			{"agent", agent}, {"text", "a typing error in the tool"}}},
		{"task-drifted-and-is-told", "task.drifted", []field{
			{"at", at(55)}, {"caller", by}, {"tenant", "retail"}, {"task", taskID}, {"agent", agent},
			{"task_type", "customer-case"}, {"reasons", list{"SEQUENCE_REFUSED", "TASK_BOUNDARY_EXCEEDED"}},
			{"refusals", 3}, {"within", 600}, {"suspended", true}, {"revoked", 0}, {"status_indexes", indexes{}},
			{"actions", list{"order.delete", "order.refund"}}, {"group", "desk"}}},
		{"task-escalated", "task.escalated", []field{
			{"at", at(56)}, {"tenant", "retail"}, {"task", taskID}, {"agent", agent}, {"group", "duty"}}},
		{"task-resumed-by-token", "task.resumed", []field{
			{"at", at(57)}, {"caller", service}, {"decided", manage}, {"tenant", "retail"}, {"task", taskID},
			{"agent", agent}, {"text", "asked the customer"}, {"person", "mara"}}},
	}
}

// shown returns an event's fields for a program that makes the event itself.
func (e event) shown() pairs {
	out := pairs{}
	for _, each := range e.fields {
		var value any
		switch v := each.value.(type) {
		case caller:
			value = pairs{"spiffe_id", v.spiffeID, "login", v.login, "source", v.source, "request", v.request, "trace", v.trace}
		case decision:
			policies := v.policies
			if policies == nil {
				policies = []string{}
			}
			value = pairs{"id", v.id, "policies", policies, "bundle", v.bundle}
		case asked:
			value = v.ordered()
		default:
			value = v
		}
		out = append(out, each.name, value)
	}
	return out
}

func (s sealed) shown() []pairs {
	shown := []pairs{}
	for _, each := range s.openings {
		shown = append(shown, pairs{
			"field", each.field, "value", each.value, "salt", hex.EncodeToString(each.salt), "commitment", each.commitment(),
		})
	}
	return shown
}

func eventVectors() pairs {
	var accepted []pairs
	for _, each := range append(append(events(), laterEvents()...), approvalEvents()...) {
		done := each.seal()
		accepted = append(accepted, pairs{
			"id", each.id, "type", each.kind, "event", each.shown(), "openings", done.shown(),
			"content", done.content, "leaf_hash", hex.EncodeToString(leafHash(done.content)),
		})
	}
	return pairs{"format", "docs/formats/event.md", "accepted", accepted, "refused", refusedEvents()}
}

func refusedEvents() []pairs {
	good := events()[1].seal().content
	replaced := func(from, to string) string {
		require(strings.Count(good, from) == 1, "replacing "+from)
		return strings.Replace(good, from, to, 1)
	}
	rows := [][2]string{
		{"empty", ""},
		{"not-json", "event"},
		{"array", "[]"},
		{"not-utf-8", "\xff"},
		{"cut-off", good[:len(good)-1]},
		{"blank-between", replaced(`,"v"`, `, "v"`)},
		{"line-end-behind", good + "\n"},
		{"members-out-of-order", `{"v":1,` + strings.Replace(good[1:], `,"v":1`, "", 1)},
		{"needless-escape", replaced("policy.activated", `policy\u002eactivated`)},
		{"name-twice", replaced(`"v":1`, `"v":1,"v":1`)},
		{"fraction", replaced(`"v":1`, `"v":1.0`)},
		{"another-version", replaced(`"v":1`, `"v":2`)},
		{"version-true", replaced(`"v":1`, `"v":true`)},
		{"no-version", replaced(`,"v":1`, "")},
		{"no-type", replaced(`"type":"policy.activated",`, "")},
		{"type-without-dot", replaced("policy.activated", "policy")},
		{"no-time", replaced(`"at":"`+at(1)+`",`, "")},
		{"time-without-microseconds", replaced(at(1), "2026-11-21T12:00:01Z")},
		{"time-with-offset", replaced(at(1), "2026-11-21T12:00:01.000007+00:00")},
		{"integer-beyond-2-53", replaced(`"v":1`, `"u":9007199254740992,"v":1`)},
		{"commitments-a-list", replaced(`,"type"`, `,"commitments":[],"type"`)},
	}
	var vectors []pairs
	for _, row := range rows {
		vectors = append(vectors, pairs{"id", row[0], "content", hex.EncodeToString([]byte(row[1])), "fault", "MALFORMED"})
	}
	return vectors
}
