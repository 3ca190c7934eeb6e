// Command make writes the test vectors of the frozen formats (docs/formats/) as JSON files.
//
// It is a second implementation: Go, standard library only, nothing taken from broker/ or proto/. What it writes
// depends on nothing but this source, so that two runs give the same bytes. Every key, salt and seed in it is a TEST
// value that anybody can read; none may ever be used for anything else.
//
// Usage: go run . [directory], by default the directory above.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// pairs is a JSON object whose members keep the order in which they are given: name, value, name, value.
type pairs []any

// MarshalJSON writes the members in order.
func (p pairs) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i := 0; i < len(p); i += 2 {
		if i > 0 {
			out.WriteByte(',')
		}
		for j, part := range p[i : i+2] {
			encoder := json.NewEncoder(&out)
			encoder.SetEscapeHTML(false)
			if err := encoder.Encode(part); err != nil {
				return nil, err
			}
			if j == 0 {
				out.WriteByte(':')
			}
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// must returns the value; a maker of vectors has no failure that it could go on after.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// require stops the maker when something that it proves about itself does not hold.
func require(holds bool, what string) {
	if !holds {
		panic("the maker contradicts itself: " + what)
	}
}

func main() {
	directory := ".."
	if len(os.Args) > 1 {
		directory = os.Args[1]
	}
	checkCanonical()
	checkSignature()
	checkTree()
	files := []struct {
		name    string
		content pairs
	}{
		{"call", callVectors()},
		{"checkpoint", checkpointVectors()},
		{"credential", credentialVectors()},
		{"cursor", cursorVectors()},
		{"event", eventVectors()},
		{"intent", intentVectors()},
		{"keys", keyVectors()},
		{"log", logVectors()},
		{"port", portVectors()},
		{"reasons", reasonVectors()},
		{"revocations", revocationVectors()},
	}
	for _, file := range files {
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", " ")
		if err := encoder.Encode(file.content); err != nil {
			panic(err)
		}
		path := filepath.Join(directory, file.name+".json")
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
