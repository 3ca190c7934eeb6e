package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// root is the Merkle tree hash as RFC 6962 section 2.1 writes it: by recursion, not by the broker's frontier.
func root(leaves [][]byte) []byte {
	switch len(leaves) {
	case 0:
		hash := sha256.Sum256(nil)
		return hash[:]
	case 1:
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	hash := sha256.Sum256(append(append([]byte{1}, root(leaves[:k])...), root(leaves[k:])...))
	return hash[:]
}

// checkTree holds the tree against the roots that Certificate Transparency's own tests have always used.
func checkTree() {
	inputs := []string{
		"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
	}
	known := map[int]string{
		1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var leaves [][]byte
	for _, input := range inputs {
		leaves = append(leaves, leafHash(string(must(hex.DecodeString(input)))))
		if want, found := known[len(leaves)]; found {
			require(hex.EncodeToString(root(leaves)) == want, "an RFC 6962 root")
		}
	}
}

const logOrigin = "broker.example.org/log/019a8e3c-0000-7000-8000-000000000000"

// logged is an entry as somebody saved it.
type logged struct {
	position int
	content  string
	openings []opening
}

func savedLog() []logged {
	var saved []logged
	for position, each := range events() {
		done := each.seal()
		saved = append(saved, logged{position, done.content, done.openings})
	}
	return saved
}

func hashes(saved []logged) [][]byte {
	var leaves [][]byte
	for _, each := range saved {
		leaves = append(leaves, leafHash(each.content))
	}
	return leaves
}

// line is an entry as one line of a saved log.
func (l logged) line() string {
	members := pairs{"position", l.position, "event", l.content}
	var openings []pairs
	for _, each := range l.openings {
		openings = append(openings, pairs{"field", each.field, "value", each.value, "salt", base64url(each.salt)})
	}
	if openings != nil {
		members = append(members, "openings", openings)
	}
	return string(must(json.Marshal(members)))
}

func lines(saved []logged) []string {
	shown := []string{}
	for _, each := range saved {
		shown = append(shown, each.line())
	}
	return shown
}

func logVectors() pairs {
	saved := savedLog()
	leaves := hashes(saved)
	var roots []pairs
	for size := 0; size <= len(leaves); size++ {
		roots = append(roots, pairs{"size", size, "root", hex.EncodeToString(root(leaves[:size]))})
	}
	erased := slices.Clone(saved)
	for i := range erased {
		erased[i].openings = nil
	}
	note := signedNote(checkpointText(logOrigin, len(saved), root(leaves)), checkpointKey())
	return pairs{
		"format", "docs/formats/log.md",
		"leaf_hashes", hexes(leaves),
		"roots", roots,
		"verifier_key", checkpointKey().verifier(),
		"checkpoint", note,
		"accepted", []pairs{
			{"id", "with-openings", "lines", lines(saved)},
			{"id", "openings-erased", "lines", lines(erased)},
			{"id", "between-ranges", "lines", slices.Concat([]string{`{"from":0,"to":19}`}, lines(erased))},
		},
		"refused", refusedLogs(erased, saved),
	}
}

func hexes(contents [][]byte) []string {
	var shown []string
	for _, each := range contents {
		shown = append(shown, hex.EncodeToString(each))
	}
	return shown
}

func refusedLogs(bare, full []logged) []pairs {
	change := func(from []logged, edit func([]logged) []logged) []string { return lines(edit(slices.Clone(from))) }
	last := len(bare) - 1
	rows := []struct {
		id, fault string
		position  int
		lines     []string
	}{
		{"one-missing", "MISSING", 5, change(bare, func(l []logged) []logged { return slices.Delete(l, 5, 6) })},
		{"two-swapped", "MISSING", 3, change(bare, func(l []logged) []logged { l[3], l[4] = l[4], l[3]; return l })},
		{"one-twice", "OUT_OF_ORDER", 3, change(bare, func(l []logged) []logged { return slices.Insert(l, 3, l[2]) })},
		{"cut", "SHORT", last, change(bare, func(l []logged) []logged { return l[:last] })},
		{"nothing-left", "SHORT", 0, []string{}},
		{"positions-exchanged", "REWRITTEN", 0, change(bare, func(l []logged) []logged {
			l[3].content, l[4].content = l[4].content, l[3].content
			return l
		})},
		{"not-canonical", "MALFORMED", 6, change(bare, func(l []logged) []logged { l[6].content += " "; return l })},
		{"opening-of-another-value", "OPENING", 4, change(full, func(l []logged) []logged {
			l[4].openings = slices.Clone(l[4].openings)
			l[4].openings[0].value = `"ipv4:192.0.2.8:40112"`
			return l
		})},
		{"opening-of-another-field", "OPENING", 4, change(full, func(l []logged) []logged {
			l[4].openings = slices.Clone(l[4].openings)
			l[4].openings[0].field = "text"
			return l
		})},
	}
	var vectors []pairs
	for _, row := range rows {
		vectors = append(vectors, pairs{"id", row.id, "fault", row.fault, "position", row.position, "lines", row.lines})
	}
	return vectors
}
