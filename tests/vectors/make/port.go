package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// The wire format of protocol buffers, as far as the port needs it; written by hand from proto/broker/issuer/v1, in the
// order of field numbers, members with their default value left out.

func varint(number uint64) []byte { return binary.AppendUvarint(nil, number) }

// number encodes a varint field; 0 is left out.
func number(field int, value uint64) []byte {
	if value == 0 {
		return nil
	}
	return append(varint(uint64(field)<<3), varint(value)...)
}

// content encodes a length-delimited field, even an empty one: a message that is set, or an element of a list.
func content(field int, parts ...[]byte) []byte {
	body := join(parts...)
	return join(varint(uint64(field)<<3|2), varint(uint64(len(body))), body)
}

// text encodes a text or bytes field; an empty one is left out.
func text(field int, value string) []byte {
	if value == "" {
		return nil
	}
	return content(field, []byte(value))
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

// framed puts a frame's length before it: 4 bytes, big endian.
func framed(frame []byte) string {
	return hex.EncodeToString(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
}

const (
	noonUS   = uint64(now) * 1_000_000
	trace    = "0af7651916cd43dd8448eb211c80319c"
	leafText = "-----BEGIN CERTIFICATE-----\nnot a real one\n-----END CERTIFICATE-----\n"
	source   = "ipv4:192.0.2.7:40112"
)

func contextBytes(field int) []byte {
	evidence := content(1, text(1, leafText), text(3, "TLSv1.3"), number(4, 1), text(5, source))
	return content(field, evidence, text(2, requestID), text(3, trace))
}

func contextShown() pairs {
	return pairs{
		"evidence", pairs{
			"leaf", base64.StdEncoding.EncodeToString([]byte(leafText)), "tls_version", "TLSv1.3", "session_reused", true,
			"source", source,
		},
		"request", requestID, "trace", trace,
	}
}

// frame is a frame as bytes and as a reader sees it, in protobuf's JSON mapping with the names of the proto.
type frame struct {
	id    string
	bytes []byte
	shown pairs
}

func exchangeFrames() []frame {
	a := refund()
	resource := content(2, text(1, a.kind), text(2, a.id))
	intent := content(2, text(1, a.action), resource, text(3, `{"amount":1250,"currency":"EUR"}`), text(4, a.purpose),
		text(5, a.audience), text(6, a.task), text(7, a.onBehalfOf), number(8, 2), number(9, 3))
	refused := content(3, text(1, "INTENT_NAME_INVALID"), text(2, "action"))
	asking := content(2, // exchange
		content(1, contextBytes(1), intent, number(4, 60_000_000), text(5, "req-1")),
		content(1, contextBytes(1), refused))
	return []frame{
		{"exchange", join(number(1, 300), asking), pairs{"number", 300, "exchange", pairs{"calls", []pairs{
			{
				"context", contextShown(),
				"intent", pairs{
					"action", a.action, "resource", pairs{"type", a.kind, "id", a.id},
					"parameters", `{"amount":1250,"currency":"EUR"}`, "purpose", a.purpose, "audience", a.audience,
					"task", a.task, "on_behalf_of", a.onBehalfOf, "sensitivity", "LEVEL_MODERATE", "risk", "LEVEL_HIGH",
				},
				"lifetime_us", 60_000_000, "request_id", "req-1",
			},
			{"context", contextShown(), "refusal", pairs{"reason", "INTENT_NAME_INVALID", "detail", "action"}},
		}}}},
		exchangedFrame(),
	}
}

func exchangedFrame() frame {
	const limits = `{"amount":{"min":1,"max":5000},"currency":["EUR"]}`
	g := grants()[0]
	scope := content(7, text(1, "order.refund"), content(2, text(1, g.kind), text(2, g.resource)),
		text(3, limits), text(4, audience))
	given := content(1, content(1, text(1, "header.claims.signature"), text(2, g.credential), text(3, agent),
		text(4, g.tenant), text(5, g.task), text(6, txnID), scope, text(8, g.digest), text(9, leafThumbprint()),
		number(10, uint64(g.index)), text(11, "refund-small"), text(11, "support-reads"), number(12, noonUS),
		number(13, noonUS+300_000_000), number(14, 1), text(15, decisionID)))
	denied := content(1, content(2, text(1, "POLICY_FORBIDDEN"), text(3, "refunds-are-limited"), text(4, decisionID),
		text(5, "I may not refund more than 50 €.")))
	return frame{"exchanged", join(number(1, 300), content(33, given, denied)), pairs{
		"number", 300, "exchanged", pairs{"answers", []pairs{
			{"credential", pairs{
				"token", "header.claims.signature", "credential_id", g.credential, "agent", agent, "tenant", g.tenant,
				"task", g.task, "transaction_id", txnID,
				"scope", pairs{
					"actions", []string{"order.refund"}, "resource", pairs{"type", g.kind, "id", g.resource},
					"constraints", limits,
					"audience", audience,
				},
				"intent_digest", g.digest, "thumbprint", leafThumbprint(), "status_index", g.index,
				"policy_ids", []string{"refund-small", "support-reads"}, "issued_at_us", noonUS,
				"expires_at_us", noonUS + 300_000_000, "use", "USE_MANY", "decision_id", decisionID,
			}},
			{"refusal", pairs{
				"reason", "POLICY_FORBIDDEN", "policy_ids", []string{"refunds-are-limited"}, "decision_id", decisionID,
				"sentence", "I may not refund more than 50 €.",
			}},
		}},
	}}
}

func otherFrames() []frame {
	bitmap := roaring([]indexRange{{3, 3}, {7, 9}}, false)
	page := content(1, number(2, 17), text(3, "cursor"), number(4, noonUS), number(5, 17), number(6, noonUS+1))
	revoked := content(3, number(1, 12), number(2, noonUS), text(3, "agent"), content(4, varint(3), varint(300)))
	return []frame{
		{"revoke", join(number(1, 1), content(5, contextBytes(1), number(2, 3), text(3, agent), text(4, "key in a log"))),
			pairs{"number", 1, "revoke", pairs{
				"context", contextShown(), "kind", "RULE_KIND_AGENT", "name", agent, "text", "key in a log",
			}}},
		{"read-audit", join(number(1, 2), content(12, contextBytes(1), text(2, "cursor"),
			content(3, text(1, "task.begun"), text(1, "task.ended"), text(2, "retail")), number(4, 1), number(5, 1))),
			pairs{"number", 2, "read_audit", pairs{
				"context", contextShown(), "cursor", "cursor",
				"filter", pairs{"kinds", []string{"task.begun", "task.ended"}, "tenant", "retail"},
				"start", "START_BEGINNING", "personal", true,
			}}},
		{"watch-empty-body", join(number(1, 3), content(13)), pairs{"number", 3, "watch", pairs{}}},
		{"read-state", join(number(1, 1), content(14)), pairs{"number", 1, "read_state", pairs{}}},
		{"state", join(number(1, 1), content(43, number(1, 7))), pairs{"number", 1, "state", pairs{"size", 7}}},
		{"number-0", content(14), pairs{"read_state", pairs{}}},
		{"largest-number", join(number(1, 1<<64-1), content(42, number(1, 1<<40), number(2, 9))), pairs{
			"number", "18446744073709551615", "changed", pairs{"size", 1 << 40, "epoch", 9},
		}},
		{"changed-by-an-ending", join(number(1, 1), content(42, number(1, 7), number(2, 9), number(3, 2))), pairs{
			"number", 1, "changed", pairs{"size", 7, "epoch", 9, "endings", 2},
		}},
		{"refused", join(number(1, 4), content(32, text(1, "AUDIT_UNAVAILABLE"))), pairs{
			"number", 4, "refused", pairs{"reason", "AUDIT_UNAVAILABLE"},
		}},
		{"revocation-page", join(number(1, 5), content(40, page, content(2, text(1, string(bitmap))), revoked)), pairs{
			"number", 5, "revocation_page", pairs{
				"page", pairs{
					"stop", 17, "cursor", "cursor", "read_at_us", noonUS, "size", 17, "valid_until_us", noonUS + 1,
				},
				"snapshot", pairs{"status_indexes", base64.StdEncoding.EncodeToString(bitmap)},
				"revoked", []pairs{{"position", 12, "at_us", noonUS, "rule", "agent", "status_indexes", []int{3, 300}}},
			},
		}},
		{"task-alive", join(number(1, 6), content(34, text(1, taskID), number(7, noonUS), number(8, noonUS+1))), pairs{
			"number", 6, "task", pairs{"id", taskID, "begun_at_us", noonUS, "deadline_us", noonUS + 1},
		}},
		// An optional member that is set to its default is not left out.
		{"task-ended-at-0", join(number(1, 6), content(34, text(1, taskID), varint(9<<3), varint(0))), pairs{
			"number", 6, "task", pairs{"id", taskID, "ended_at_us", 0},
		}},
	}
}

func portVectors() pairs {
	var accepted []pairs
	for _, each := range append(exchangeFrames(), otherFrames()...) {
		accepted = append(accepted, pairs{"id", each.id, "message", each.shown, "bytes", framed(each.bytes)})
	}
	later := join(number(1, 3), content(13, text(1000, "from a later release")))
	return pairs{
		"format", "docs/formats/port.md",
		"accepted", accepted,
		"accepted_only", []pairs{
			{"id", "unknown-field-passed-over", "message", pairs{"number", 3, "watch", pairs{}}, "bytes", framed(later), "zeros", 0},
			filled("exactly-8-mib", 8<<20),
		},
		"refused", refusedFrames(),
		"refused_calls", refusedCalls(),
	}
}

func refusedFrames() []pairs {
	whole := framed(join(number(1, 4), content(32, text(1, "AUDIT_UNAVAILABLE"))))
	rows := [][2]string{
		{"length-cut", whole[:6]},
		{"frame-cut", whole[:len(whole)-2]},
		{"frame-missing", whole[:8]},
		{"largest-length", "ffffffff" + strings.Repeat("00", 16)},
		{"little-endian-length", "13000000" + whole[8:]},
		{"no-frame-at-all", "00000000"},
		{"number-without-body", framed(number(1, 4))},
		{"body-unknown", framed(join(number(1, 4), content(31, text(1, "a"))))},
		{"field-cut", framed([]byte{0x08})},
		{"length-beyond-the-frame", framed([]byte{0x6a, 0x05, 0x01})},
		{"text-not-utf-8", framed(join(number(1, 4), content(32, text(1, "\xff"))))},
	}
	var vectors []pairs
	for _, row := range rows {
		vectors = append(vectors, pairs{"id", row[0], "bytes", row[1], "zeros", 0})
	}
	return append(vectors, filled("one-byte-over-8-mib", 8<<20+1))
}

// filled is a frame of this size that is right in all else: bytes, and then zeros in a field that nobody knows.
func filled(id string, size int) pairs {
	// The inner length is a varint of four bytes, and so is the outer one: both lie between 2^21 and 2^28.
	known := join(number(1, 3), varint(13<<3|2))
	inner := size - len(known) - 4
	field := varint(1000<<3 | 2)
	zeros := inner - len(field) - 4
	head := join(known, varint(uint64(inner)), field, varint(uint64(zeros)))
	require(len(head)+zeros == size, "the size of a frame")
	return pairs{
		"id", id, "message", pairs{"number", 3, "watch", pairs{}},
		"bytes", hex.EncodeToString(append(binary.BigEndian.AppendUint32(nil, uint32(size)), head...)), "zeros", zeros,
	}
}

// refusedCalls are whole frames that hold no call of an honest door.
func refusedCalls() []pairs {
	call := func(parts ...[]byte) []byte { return join(number(1, 1), content(5, parts...)) }
	evidence := content(1, text(3, "TLSv1.3"))
	rows := []struct {
		id    string
		bytes []byte
	}{
		{"no-context", call(number(2, 3), text(3, agent))},
		{"no-evidence", call(content(1, text(2, requestID)), number(2, 3), text(3, agent))},
		{"no-request", call(content(1, evidence), number(2, 3), text(3, agent))},
		{"trace-not-hexadecimal", call(content(1, evidence, text(2, requestID), text(3, "trace")), number(2, 3), text(3, agent))},
		{"rule-kind-unspecified", call(contextBytes(1), text(3, agent))},
		{"rule-kind-unknown", call(contextBytes(1), number(2, 99), text(3, agent))},
		{"name-too-long", call(contextBytes(1), number(2, 3), text(3, strings.Repeat("a", 2049)))},
		{"text-too-long", call(contextBytes(1), number(2, 3), text(3, agent), text(4, strings.Repeat("a", 1025)))},
	}
	var vectors []pairs
	for _, row := range rows {
		vectors = append(vectors, pairs{"id", row.id, "bytes", framed(row.bytes)})
	}
	return vectors
}
