// Interop is a client of the broker in another language: generated code, go-spiffe, and nothing of the Python packages.
//
//	interop                                     does what each line of its input says, one JSON object a line
//	interop follow audit|revocations JOURNAL [KIND ...]   follows a stream into a file, and goes on where that ends
//
// SPIFFE_ENDPOINT_SOCKET says where the SPIRE agent answers, BROKER_ADDRESS and BROKER_ID which broker to ask. It ends
// when its input ends.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const (
	patience = 30 * time.Second // for the first SVID
	deadline = 10 * time.Second // of each call
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		say(told(err))
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	opened, err := openClient(ctx)
	if err != nil {
		return err
	}
	if len(arguments) > 2 && arguments[0] == "follow" {
		go endWithInput()
		kept, err := openJournal(arguments[2])
		if err != nil {
			return err
		}
		return opened.follow(ctx, arguments[1], arguments[3:], kept)
	}
	return opened.serve(ctx)
}

// openClient waits for the first SVID; the source keeps SVID and bundles current from then on.
func openClient(ctx context.Context) (*client, error) {
	brokerID, err := spiffeid.FromString(os.Getenv("BROKER_ID"))
	if err != nil {
		return nil, fmt.Errorf("BROKER_ID: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	source, err := workloadapi.NewX509Source(waiting)
	if err != nil {
		return nil, err
	}
	broker := endpoint{id: brokerID, address: os.Getenv("BROKER_ADDRESS")}
	return &client{source: source, broker: broker, held: map[string]*credential{}}, nil
}

// serve does what it is told, one after the other.
func (c *client) serve(ctx context.Context) error {
	say(answer{"ready": true})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked ask
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		say(c.do(ctx, asked))
	}
	return lines.Err()
}

func (c *client) do(ctx context.Context, asked ask) answer {
	verb, ok := c.verbs()[asked.Do]
	if !ok {
		return answer{"failed": "no such verb"}
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	done, err := verb(ctx, asked)
	if err != nil {
		return told(err)
	}
	return done
}

func say(said answer) {
	_ = json.NewEncoder(os.Stdout).Encode(said)
}

// endWithInput ends the program when whoever started it is gone.
func endWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}
