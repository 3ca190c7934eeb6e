package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

const (
	// A stream that says nothing for longer than this is opened anew. The longest stall is shorter.
	silence      = 15 * time.Second
	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
)

// A subscriber is one line of a plan.
type subscriber struct {
	Name     string
	Address  string
	Broker   string // the SPIFFE ID that has to answer
	Identity string // files of its SVID
	Stream   string // "audit" or "revocations"
	Kinds    []string
	Tenant   string
	Seed     uint64
	Breaks   float64 // how likely it breaks off after a message, half of the time together with its connection
	Stalls   float64 // how likely it stops reading for a while after a message
	Held     bool    // it does not read on after its first message, before it is told to
}

// orders are what the program is told while it runs, a line each: "release" lets those who were held read on, and says how
// many messages have come before; "until N" lets each subscriber end once it was told everything before N.
type orders struct {
	released chan struct{}
	until    atomic.Uint64
}

// counts are what the program says of itself in the end.
type counts struct {
	Opened   atomic.Int64
	Broken   atomic.Int64
	Stalled  atomic.Int64
	Messages atomic.Int64
}

func follow(arguments []string) error {
	if len(arguments) != 2 {
		return errors.New("usage: load follow PLAN JOURNAL")
	}
	plan, err := readPlan(arguments[0])
	if err != nil {
		return err
	}
	kept, err := openJournal(arguments[1])
	if err != nil {
		return err
	}
	given := &orders{released: make(chan struct{})}
	var done counts
	go given.obey(os.Stdin, &done)
	var begun, ended sync.WaitGroup
	failed := make(chan error, len(plan))
	for _, each := range plan {
		begun.Add(1)
		ended.Go(func() {
			reader := &reader{subscriber: each, orders: given, journal: kept, counts: &done, begun: sync.OnceFunc(begun.Done)}
			if err := reader.run(); err != nil {
				failed <- fmt.Errorf("%s: %w", each.Name, err)
			}
			reader.begun()
		})
	}
	begun.Wait()
	say(map[string]any{"begun": len(plan)})
	ended.Wait()
	if err := kept.close(); err != nil {
		return err
	}
	say(map[string]any{
		"opened": done.Opened.Load(), "broken": done.Broken.Load(), "stalled": done.Stalled.Load(),
		"messages": done.Messages.Load(),
	})
	close(failed)
	return <-failed
}

func readPlan(path string) ([]subscriber, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var plan []subscriber
	for lines := json.NewDecoder(file); ; {
		var next subscriber
		if err := lines.Decode(&next); errors.Is(err, io.EOF) {
			return plan, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		plan = append(plan, next)
	}
}

func (o *orders) obey(input io.Reader, so *counts) {
	release := sync.OnceFunc(func() {
		say(map[string]any{"messages": so.Messages.Load()})
		close(o.released)
	})
	for lines := bufio.NewScanner(input); lines.Scan(); {
		order, value, _ := strings.Cut(lines.Text(), " ")
		switch order {
		case "release":
			release()
		case "until":
			if until, err := strconv.ParseUint(value, 10, 64); err == nil {
				o.until.Store(until)
			}
		}
	}
	os.Exit(3) // whoever started this program is gone
}

// over reports whether a reader that was told everything before a position may end.
func (o *orders) over(reached uint64) bool {
	until := o.until.Load()
	return until > 0 && reached >= until
}

// A reader is one subscriber at work.
type reader struct {
	subscriber
	*orders
	*journal
	*counts
	begun   func()
	random  *rand.Rand
	broker  *grpc.ClientConn
	cursor  string
	reached int64 // the position of the cursor; -1 before there is one
}

// errBroken is how a reader breaks off by itself.
var errBroken = errors.New("broken off")

func (r *reader) run() error {
	r.random = rand.New(rand.NewPCG(r.Seed, 0))
	r.reached = -1
	defer r.disconnect()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if r.broker == nil {
			broker, err := connect(r.Address, r.Broker, r.Identity)
			if err != nil {
				return err
			}
			r.broker = broker
		}
		before := r.reached
		err := r.read()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errBroken):
			r.Broken.Add(1)
			if r.random.IntN(2) == 0 {
				r.disconnect()
			}
		case !passing(err):
			return err
		}
		if r.reached != before {
			pause = firstPause
		}
		time.Sleep(time.Duration(r.random.Int64N(int64(pause))))
	}
}

func (r *reader) disconnect() {
	if r.broker != nil {
		_ = r.broker.Close()
		r.broker = nil
	}
}

// read reads from the cursor on, until the stream ends, this reader breaks off, or it has read all that it is to read.
func (r *reader) read() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	open := revocations
	if r.Stream == "audit" {
		open = audit
	}
	next, err := open(ctx, r.broker, r.subscriber, r.cursor)
	if err != nil {
		return err
	}
	after := r.reached
	for first := true; ; first = false {
		told, cursor, err := next()
		if err != nil {
			return err
		}
		if first { // a stream that was refused or lost before it said anything was not opened
			r.Opened.Add(1)
			if err := r.write(step{Name: r.Name, Opened: &after}); err != nil {
				return err
			}
		}
		if err := r.write(step{Name: r.Name, Told: told}); err != nil {
			return err
		}
		r.Messages.Add(1)
		r.cursor, r.reached = cursor, int64(told.Stop)
		r.begun()
		if r.over(told.Stop) {
			return nil
		}
		if r.random.Float64() < r.Breaks {
			return errBroken
		}
		watchdog.Stop()
		r.stall()
		watchdog.Reset(silence)
	}
}

// stall is when a reader does not read.
func (r *reader) stall() {
	if r.Held {
		<-r.released
		return
	}
	if r.random.Float64() < r.Stalls {
		r.Stalled.Add(1)
		time.Sleep(time.Duration(r.random.Int64N(int64(2 * time.Second))))
	}
}
