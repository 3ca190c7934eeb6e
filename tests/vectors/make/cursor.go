package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// place is the stream that a cursor belongs to.
type place struct{ log, stream, reader, view string }

func mac(content string, key []byte) []byte {
	sum := hmac.New(sha256.New, key)
	sum.Write([]byte(content))
	return sum.Sum(nil)
}

func (p place) content(position int) string { return canonical(p.members(position)) }

func (p place) members(position int) object {
	return object{
		"log": p.log, "stream": p.stream, "reader": digest([]byte(p.reader)), "view": p.view, "position": position,
	}
}

// contentAfter is that of a cursor which names the entry before its position.
func (p place) contentAfter(entry string, position int) string {
	members := p.members(position)
	members["leaf"] = shortLeaf(entry)
	return canonical(members)
}

func shortLeaf(entry string) string { return base64url(leafHash(entry)[:16]) }

func sealCursor(content string, key []byte) string {
	return base64url([]byte(content)) + "." + base64url(mac(content, key))
}

func view(members object) string { return digest([]byte(canonical(members))) }

func auditView(kinds list, tenant, agent, task, credential string) object {
	return object{"kinds": kinds, "tenant": tenant, "agent": agent, "task": task, "credential": credential}
}

func cursorVectors() pairs {
	key := seed("cursor key")
	byService := object{"audience": audience}
	everything := auditView(list{}, "", "", "", "")
	narrowed := auditView(list{"credential.granted", "exchange.refused"}, "retail", agent, taskID, credential)
	const log = "log_019a8e3c-0000-7000-8000-000000000000"
	audit := place{log, "audit", operator, view(everything)}
	long := place{log, "revocations", audience + strings.Repeat("a", 2048-len(audience)), view(byService)}
	row := func(id string, at place, position int) pairs {
		content := at.content(position)
		return pairs{
			"id", id, "log", at.log, "stream", at.stream, "reader", at.reader, "view", at.view, "position", position,
			"content", content, "cursor", sealCursor(content, key),
		}
	}
	after := func(id string, at place, position int) pairs {
		content := at.contentAfter(entryBefore, position)
		return pairs{
			"id", id, "log", at.log, "stream", at.stream, "reader", at.reader, "view", at.view, "position", position,
			"entry", entryBefore, "leaf", shortLeaf(entryBefore), "content", content, "cursor", sealCursor(content, key),
		}
	}
	return pairs{
		"format", "docs/formats/cursor.md",
		"test_key", hex.EncodeToString(key),
		"views", []pairs{
			{"id", "revocations-of-a-service", "members", byService, "view", view(byService)},
			{"id", "revocations-of-an-agent", "members", object{"agent": agent}, "view", view(object{"agent": agent})},
			{"id", "audit-unfiltered", "members", everything, "view", view(everything)},
			{"id", "audit-filtered", "members", narrowed, "view", view(narrowed)},
		},
		"accepted", []pairs{
			row("start", audit, 0),
			row("audit", audit, 17),
			row("audit-filtered", place{log, "audit", operator, view(narrowed)}, 17),
			row("revocations", place{log, "revocations", audience, view(byService)}, 1000000),
			row("largest", audit, 1<<53-1),
			row("longest-reader", long, 1<<53-1),
			after("after-an-entry", audit, 17),
			after("longest-reader-after-an-entry", long, 1<<53-1),
		},
		"refused", refusedCursors(audit, key),
	}
}

// entryBefore is what stands in the log before the position of a cursor.
const entryBefore = `{"at":"2026-11-21T12:00:00.000000Z","type":"broker.started","v":1}`

func refusedCursors(at place, key []byte) []pairs {
	const size, malformed, tampered = 17, "CURSOR_MALFORMED", "CURSOR_TAMPERED"
	sealAt := func(changed place) string { return sealCursor(changed.content(3), key) }
	content, good := at.content(3), sealAt(at)
	encoded, sum, _ := strings.Cut(good, ".")
	other := func(edit func(*place)) string { changed := at; edit(&changed); return sealAt(changed) }
	rows := [][3]string{
		{"empty", "", malformed},
		{"no-dot", encoded, malformed},
		{"three-parts", good + ".", malformed},
		{"padded", encoded + "==." + sum, malformed},
		{"blank-behind", good + " ", malformed},
		{"base64-alphabet", strings.Replace(good, ".", "+.", 1), malformed},
		{"last-bits-set", good[:len(good)-1] + nextLetter(good[len(good)-1]), malformed},
		{"1025-long", strings.Repeat("A", 980) + "." + strings.Repeat("A", 44), malformed},
		{"no-seal", encoded + ".", tampered},
		{"seal-cut", base64url([]byte(content)) + "." + base64url(mac(content, key)[:16]), tampered},
		{"another-key", sealCursor(content, seed("another cursor key")), tampered},
		{"position-moved", base64url([]byte(strings.Replace(content, `"position":3`, `"position":4`, 1))) + "." + sum, tampered},
		{"plain-sha-256", encoded + "." + base64url(leafHash(content)), tampered},
		{"another-log", other(func(p *place) { p.log = "log_2" }), "CURSOR_FOREIGN"},
		{"another-stream", other(func(p *place) { p.stream = "revocations" }), "CURSOR_FOREIGN"},
		{"another-reader", other(func(p *place) { p.reader = agent }), "CURSOR_FOREIGN"},
		{"another-view", other(func(p *place) { p.view = digest(nil) }), "CURSOR_FOREIGN"},
		{"one-ahead", sealCursor(at.content(size+1), key), "CURSOR_FROM_THE_FUTURE"},
	}
	vectors := []pairs{{
		"id", "another-history", "log", at.log, "stream", at.stream, "reader", at.reader, "view", at.view, "size", size,
		"cursor", sealCursor(at.contentAfter(entryBefore+" ", 3), key), "leaf", shortLeaf(entryBefore),
		"reason", "CURSOR_FOREIGN",
	}}
	for _, row := range rows {
		vectors = append(vectors, pairs{
			"id", row[0], "log", at.log, "stream", at.stream, "reader", at.reader, "view", at.view, "size", size,
			"cursor", row[1], "reason", row[2],
		})
	}
	return vectors
}

// nextLetter returns the letter of base64url that follows, which says the same bytes with a spare bit set.
func nextLetter(letter byte) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(letters[strings.IndexByte(letters, letter)+1])
}
