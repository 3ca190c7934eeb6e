package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	brokerv1 "example.org/spiffe-credential-broker/tests/load/gen/broker/v1"
)

// A schedule says when each call is due, whatever became of those before it: call n at n/rate.
type schedule struct {
	rate  float64 // calls a second
	calls int
}

func (s schedule) due(n int) time.Duration {
	return time.Duration(float64(n) / s.rate * float64(time.Second))
}

// A sample is what became of one call. Both times count from when it was due, so that a server that stands still is
// charged for every call that was to be made meanwhile: no coordinated omission.
type sample struct {
	late    time.Duration // until this program got to it
	waited  time.Duration // until its answer
	outcome string        // empty for a credential, else the reason or the code
	refused bool
}

func exchange(arguments []string) error {
	flags := flag.NewFlagSet("exchange", flag.ContinueOnError)
	address := flags.String("address", "", "of the server, host:port")
	server := flags.String("server", "", "its SPIFFE ID")
	identity := flags.String("identity", "", "the caller's files, without .key and .pem")
	rate := flags.Float64("rate", 100, "calls a second")
	seconds := flags.Float64("seconds", 10, "how long calls are due")
	warmup := flags.Float64("warmup", 0, "seconds before that, at the same rate, that are not counted")
	connections := flags.Int("connections", 8, "to spread the calls over")
	deadline := flags.Duration("deadline", 10*time.Second, "of each call")
	audience := flags.String("audience", "", "SPIFFE ID of the service that the credentials are for")
	action := flags.String("action", "order.read", "what is asked for")
	resource := flags.String("resource", "order", "type of what it is asked for; the ids go round, 0 to 999")
	purpose := flags.String("purpose", "customer-support", "why")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *rate <= 0 || *seconds <= 0 || *warmup < 0 || *connections < 1 || flags.NArg() > 0 {
		return errors.New("exchange: rate, seconds and connections are positive, and there is nothing behind the flags")
	}
	var clients []brokerv1.ExchangeServiceClient
	for range *connections {
		connection, err := connect(*address, *server, *identity)
		if err != nil {
			return err
		}
		defer connection.Close()
		clients = append(clients, brokerv1.NewExchangeServiceClient(connection))
	}
	intent := func(n int) *brokerv1.ExchangeRequest {
		return &brokerv1.ExchangeRequest{Intent: &brokerv1.Intent{
			Action:   *action,
			Resource: &brokerv1.Resource{Type: *resource, Which: &brokerv1.Resource_Id{Id: strconv.Itoa(n % 1000)}},
			Purpose:  *purpose,
			Audience: *audience,
		}}
	}
	call := func(n int) (string, bool) {
		ctx, cancel := context.WithTimeout(context.Background(), *deadline)
		defer cancel()
		answer, err := clients[n%len(clients)].Exchange(ctx, intent(n), grpc.WaitForReady(true))
		if err == nil && answer.GetCredential().GetToken() == "" {
			return "an answer without a token", false
		}
		return outcome(err)
	}
	uncounted := int(*rate * *warmup)
	plan := schedule{rate: *rate, calls: uncounted + int(*rate**seconds)}
	before := cpu()
	samples, took := run(plan, call)
	say(summary(samples[uncounted:], *rate, took-plan.due(uncounted), cpu()-before))
	return nil
}

// outcome names what a call ended with, and whether it was the broker that said no.
func outcome(err error) (string, bool) {
	if err == nil {
		return "", false
	}
	if said := reason(err); said != "" {
		return said, true
	}
	return status.Code(err).String(), false
}

// run makes every call when it is due, each in a goroutine of its own, and waits for all of them.
func run(plan schedule, call func(n int) (string, bool)) ([]sample, time.Duration) {
	samples := make([]sample, plan.calls)
	var calls sync.WaitGroup
	begun := time.Now()
	for n := range plan.calls {
		due := begun.Add(plan.due(n))
		time.Sleep(time.Until(due))
		calls.Go(func() {
			late := time.Since(due)
			said, refused := call(n)
			samples[n] = sample{late: late, waited: time.Since(due), outcome: said, refused: refused}
		})
	}
	calls.Wait()
	return samples, time.Since(begun)
}

// summary is what the program answers: latencies in milliseconds, of everything that was due, also of what failed.
func summary(samples []sample, rate float64, took, used time.Duration) map[string]any {
	var waited, late []time.Duration
	granted, refused, failed := 0, map[string]int{}, map[string]int{}
	for _, each := range samples {
		waited, late = append(waited, each.waited), append(late, each.late)
		switch {
		case each.outcome == "":
			granted++
		case each.refused:
			refused[each.outcome]++
		default:
			failed[each.outcome]++
		}
	}
	return map[string]any{
		"rate": rate, "scheduled": len(samples), "granted": granted, "refused": refused, "failed": failed,
		"seconds": took.Seconds(), "latency_ms": quantiles(waited), "late_ms": quantiles(late), "cpu_seconds": used.Seconds(),
	}
}

func quantiles(of []time.Duration) map[string]float64 {
	slices.Sort(of)
	found := map[string]float64{}
	for _, part := range []float64{0.5, 0.9, 0.99, 0.999, 1} {
		at := max(0, int(part*float64(len(of))+0.9999)-1) // nearest rank
		if len(of) > 0 {
			found[fmt.Sprintf("p%g", part*100)] = float64(of[at].Microseconds()) / 1000
		}
	}
	return found
}

// cpu returns the CPU time that this program has used.
func cpu() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
