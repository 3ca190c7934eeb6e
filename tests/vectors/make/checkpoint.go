package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// noteKey signs notes (c2sp.org/signed-note, Ed25519: signature type 0x01). Ed25519 signatures are deterministic.
type noteKey struct {
	name    string
	private ed25519.PrivateKey
}

func checkpointKey() noteKey {
	return noteKey{logOrigin, ed25519.NewKeyFromSeed(seed("checkpoint key"))}
}

func witnessKey() noteKey {
	return noteKey{"witness.example.net/w1", ed25519.NewKeyFromSeed(seed("witness key"))}
}

// nextCheckpointKey is of the same log, and follows.
func nextCheckpointKey() noteKey {
	return noteKey{logOrigin, ed25519.NewKeyFromSeed(seed("next checkpoint key"))}
}

// endorsement is the note by which one key of a log introduces another.
func endorsement(key, by noteKey) string {
	return signedNote("broker.v1 checkpoint key\n"+key.verifier()+"\n", by)
}

func (k noteKey) public() []byte { return append([]byte{1}, k.private.Public().(ed25519.PublicKey)...) }

func (k noteKey) id() []byte {
	hash := sha256.Sum256(append([]byte(k.name+"\n"), k.public()...))
	return hash[:4]
}

func (k noteKey) verifier() string {
	return fmt.Sprintf("%s+%x+%s", k.name, k.id(), base64.StdEncoding.EncodeToString(k.public()))
}

func (k noteKey) line(text string) string {
	signature := append(k.id(), ed25519.Sign(k.private, []byte(text))...)
	return "\u2014 " + k.name + " " + base64.StdEncoding.EncodeToString(signature) + "\n"
}

func checkpointText(origin string, size any, root []byte) string {
	return fmt.Sprintf("%s\n%v\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root))
}

func signedNote(text string, keys ...noteKey) string {
	note := text + "\n"
	for _, key := range keys {
		note += key.line(text)
	}
	return note
}

func checkpointVectors() pairs {
	key, witness, leaves := checkpointKey(), witnessKey(), hashes(savedLog())
	text := func(size int) string { return checkpointText(logOrigin, size, root(leaves[:size])) }
	row := func(id, note string, size int, ours bool) pairs {
		return pairs{
			"id", id, "size", size, "root", hex.EncodeToString(root(leaves[:size])), "note", note, "reproduced", ours,
		}
	}
	var accepted []pairs
	for _, size := range []int{0, 1, 7, 8, len(leaves)} {
		accepted = append(accepted, row(fmt.Sprintf("size-%d", size), signedNote(text(size), key), size, true))
	}
	accepted = append(accepted,
		row("extension-line", signedNote(text(7)+"an extension\n", key), 7, false),
		row("witnessed", signedNote(text(7), key, witness), 7, false),
		row("witness-first", signedNote(text(7), witness, key), 7, false),
	)
	return pairs{
		"format", "docs/formats/log.md",
		"test_seed", hex.EncodeToString(seed("checkpoint key")),
		"public_key", hex.EncodeToString(key.public()[1:]),
		"verifier_key", key.verifier(),
		"accepted", accepted,
		"refused", refusedNotes(text(7), root(leaves[:7])),
		"refused_verifier_keys", refusedVerifierKeys(),
		"next_verifier_key", nextCheckpointKey().verifier(),
		"endorsement", endorsement(nextCheckpointKey(), key),
		"refused_endorsements", refusedEndorsements(),
	}
}

func refusedEndorsements() []pairs {
	key, next, witness := checkpointKey(), nextCheckpointKey(), witnessKey()
	good := endorsement(next, key)
	require(strings.Contains(good, next.verifier()), "a verifier key in an endorsement")
	rows := [][2]string{
		{"by-itself", endorsement(next, next)},
		{"by-a-witness", endorsement(next, witness)},
		{"of-a-key-of-another-log", endorsement(witness, key)},
		{"of-another-key-than-was-signed", strings.Replace(good, next.verifier(), noteKey{logOrigin, witness.private}.verifier(), 1)},
		{"a-checkpoint", signedNote(checkpointText(logOrigin, 7, leafHash("x")), key)},
		{"another-heading", signedNote("broker.v1 token key\n"+next.verifier()+"\n", key)},
		{"no-key", signedNote("broker.v1 checkpoint key\n", key)},
		{"a-line-more", signedNote("broker.v1 checkpoint key\n"+next.verifier()+"\nmore\n", key)},
	}
	var vectors []pairs
	for _, row := range rows {
		vectors = append(vectors, pairs{"id", row[0], "note", row[1]})
	}
	return vectors
}

func refusedNotes(text string, at []byte) []pairs {
	key := checkpointKey()
	good := signedNote(text, key)
	encoded := base64.StdEncoding.EncodeToString(at)
	require(len(encoded) == 44 && nextLetter(encoded[42]) != "-", "a root whose last letter has a next one in both alphabets")
	wrongKey := noteKey{logOrigin, witnessKey().private}
	swap := func(from, to string) string {
		require(strings.Contains(good, from), "replacing in a note")
		return strings.Replace(good, from, to, 1)
	}
	forged := key.id()
	forged = append(forged, ed25519.Sign(wrongKey.private, []byte(text))...)
	other := checkpointText("broker.example.org/log/another", 7, at)
	rows := [][2]string{
		{"empty", ""},
		{"unsigned", text},
		{"no-signature-line", text + "\n"},
		{"size-changed", swap("\n7\n", "\n8\n")},
		{"root-changed", swap(base64.StdEncoding.EncodeToString(at), base64.StdEncoding.EncodeToString(leafHash("x")))},
		{"extension-added-later", swap("\n\n", "\nan extension\n\n")},
		{"by-another-key", signedNote(text, wrongKey)},
		{"by-a-witness-only", signedNote(text, witnessKey())},
		{"another-key-under-this-id", text + "\n\u2014 " + logOrigin + " " + base64.StdEncoding.EncodeToString(forged) + "\n"},
		{"of-another-log", other + "\n" + key.line(other)},
		{"size-with-leading-zero", signedNote(checkpointText(logOrigin, "07", at), key)},
		{"size-negative", signedNote(checkpointText(logOrigin, -7, at), key)},
		{"size-in-arabic-digits", signedNote(checkpointText(logOrigin, "\u0667", at), key)},
		{"size-2-63", signedNote(checkpointText(logOrigin, "9223372036854775808", at), key)},
		{"root-of-31-bytes", signedNote(checkpointText(logOrigin, 7, at[:31]), key)},
		{"root-in-base64url", signedNote(fmt.Sprintf("%s\n7\n%s\n", logOrigin, base64url(at)), key)},
		{"root-with-last-bits-set", signedNote(fmt.Sprintf("%s\n7\n%s%s=\n", logOrigin, encoded[:42], nextLetter(encoded[42])), key)},
		{"root-without-padding", signedNote(fmt.Sprintf("%s\n7\n%s\n", logOrigin, encoded[:43]), key)},
		{"two-lines", signedNote(logOrigin+"\n7\n", key)},
		{"no-last-line-end", strings.TrimSuffix(good, "\n")},
		{"carriage-returns", strings.ReplaceAll(good, "\n", "\r\n")},
		{"hyphen-for-dash", swap("\u2014 ", "- ")},
		{"line-behind", good + "more\n"},
		{"an-endorsement", endorsement(nextCheckpointKey(), key)},
	}
	var vectors []pairs
	for _, row := range rows {
		vectors = append(vectors, pairs{"id", row[0], "note", row[1]})
	}
	return vectors
}

func refusedVerifierKeys() []pairs {
	key := checkpointKey()
	id, encoded := hex.EncodeToString(key.id()), base64.StdEncoding.EncodeToString(key.public())
	rows := [][2]string{
		{"empty", ""},
		{"another-id", key.name + "+00000000+" + encoded},
		{"capital-id", key.name + "+" + strings.ToUpper(id) + "+" + encoded},
		{"another-algorithm", key.name + "+" + id + "+" + base64.StdEncoding.EncodeToString(append([]byte{4}, key.public()[1:]...))},
		{"another-name", "broker.example.org+" + id + "+" + encoded},
		{"no-name", "+" + id + "+" + encoded},
		{"cut-off", key.name + "+" + id + "+" + encoded[:40]},
	}
	require(strings.ToUpper(id) != id, "an id with a letter in it")
	var vectors []pairs
	for _, row := range rows {
		vectors = append(vectors, pairs{"id", row[0], "verifier_key", row[1]})
	}
	return vectors
}
