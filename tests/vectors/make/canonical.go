package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// object and list are JSON values of the subset that the formats use: no floats, no null.
type (
	object = map[string]any
	list   = []any
)

// canonical returns the RFC 8785 form of a value.
func canonical(value any) string {
	var out strings.Builder
	write(&out, value)
	return out.String()
}

func write(out *strings.Builder, value any) {
	switch v := value.(type) {
	case bool:
		out.WriteString(strconv.FormatBool(v))
	case int:
		out.WriteString(strconv.Itoa(v))
	case json.Number: // what was parsed; in this subset an integer has one form only
		out.WriteString(v.String())
	case string:
		writeString(out, v)
	case list:
		out.WriteByte('[')
		for i, element := range v {
			if i > 0 {
				out.WriteByte(',')
			}
			write(out, element)
		}
		out.WriteByte(']')
	case object:
		writeObject(out, v)
	default:
		panic(fmt.Sprintf("no value of these formats: %T", value))
	}
}

// writeObject sorts by the names' UTF-16 code units (RFC 8785 section 3.2.3), which is not their order in UTF-8.
func writeObject(out *strings.Builder, members object) {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
	})
	out.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			out.WriteByte(',')
		}
		writeString(out, name)
		out.WriteByte(':')
		write(out, members[name])
	}
	out.WriteByte('}')
}

// writeString escapes what RFC 8785 section 3.2.2.2 says, and nothing else.
func writeString(out *strings.Builder, text string) {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\t': `\t`, '\n': `\n`, '\f': `\f`, '\r': `\r`}
	out.WriteByte('"')
	for _, character := range text {
		switch escaped, found := short[character]; {
		case found:
			out.WriteString(escaped)
		case character < 0x20:
			fmt.Fprintf(out, `\u%04x`, character)
		default:
			out.WriteRune(character)
		}
	}
	out.WriteByte('"')
}

// parse reads JSON text without turning integers into floats.
func parse(text string) any {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		panic(err)
	}
	return value
}

// checkCanonical holds the writer against RFC 8785 section 3.2.3, the example of the sorting.
func checkCanonical() {
	sent := `{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",` +
		`"\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`
	values := []string{"Carriage Return", "One", "Control", "Latin", "Euro Sign", "Emoji", "Hebrew"}
	written, last := canonical(parse(sent)), -1
	for _, value := range values {
		at := strings.Index(written, value)
		require(at > last, "RFC 8785 order at "+value)
		last = at
	}
}

func base64url(content []byte) string { return base64.RawURLEncoding.EncodeToString(content) }

// digest is SHA-256 as these formats write it.
func digest(content []byte) string {
	hash := sha256.Sum256(content)
	return "sha-256:" + base64url(hash[:])
}

// seed gives 32 bytes that look random and are the same in every run: for TEST keys and TEST salts only.
func seed(name string) []byte {
	hash := sha256.Sum256([]byte("TEST ONLY, never use: " + name))
	return hash[:]
}

// without returns a copy of an object that lacks one member.
func without(members object, name string) object {
	copied := with(members, name, 0)
	delete(copied, name)
	return copied
}

// with returns a copy of an object with one member replaced or added.
func with(members object, name string, value any) object {
	copied := object{}
	for each, held := range members {
		copied[each] = held
	}
	copied[name] = value
	return copied
}
