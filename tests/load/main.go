// Load is what the tests set against a broker where Python would be the limit itself:
//
//	load follow PLAN JOURNAL     many subscribers, who break off, stall and resume; what each was told goes into a journal
//	load exchange FLAGS          an open loop of exchanges by a fixed schedule
//	load serve FLAGS             no broker at all, but what one in Go would be measured against: see serve.go
//
// Identities are files: NAME.key and NAME.pem, an SVID, and NAME.roots, the authorities of its peer's trust domain.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
)

func main() {
	commands := map[string]func([]string) error{"follow": follow, "exchange": exchange, "serve": serve}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: load follow | exchange | serve")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

var saying sync.Mutex

// say tells whoever started this program something, one JSON object a line.
func say(said any) {
	saying.Lock()
	defer saying.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(said)
}
