package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"google.golang.org/grpc"

	brokerv1 "example.org/spiffe-credential-broker/tests/load/gen/broker/v1"
)

const (
	eventSize = 900  // bytes: as long as a credential.granted
	group     = 256  // calls that one flush serves at most
	waiting   = 4096 // calls that may wait for one
)

// The reference: what a gRPC server in Go takes for the same messages over mutual TLS, when every answer waits until a
// record of its call is on the disk. It judges nobody beyond the trust domain, decides nothing, signs nothing and keeps
// nothing but a file that it appends to: one record of 900 bytes a call, one fdatasync for all calls that wait at that
// moment, which is what the broker's commits do as well. It is no broker. It is what no broker in Go can be faster than.
type reference struct {
	brokerv1.UnimplementedExchangeServiceServer
	appends chan chan error // nil without a journal: a bare echo
}

// As long as what the broker answers: tests/bench/bare.py has the same.
var answerOfReference = &brokerv1.ExchangeResponse{Credential: &brokerv1.Credential{
	Token:                strings.Repeat("x", 1000),
	CredentialId:         "cred_019a8e3c-0000-7000-8000-000000000001",
	AuthorizationDetails: strings.Repeat("x", 180),
	IntentDigest:         "sha-256:" + strings.Repeat("x", 43),
	DecisionId:           "dec_019a8e3c-0000-7000-8000-000000000004",
	PolicyIds:            []string{"order-readers-may-look-up-orders"},
	TransactionId:        "txn_019a8e3c-0000-7000-8000-000000000003",
	Tenant:               "retail",
}}

func (r *reference) Exchange(ctx context.Context, _ *brokerv1.ExchangeRequest) (*brokerv1.ExchangeResponse, error) {
	if r.appends != nil {
		durable := make(chan error, 1)
		select {
		case r.appends <- durable:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := <-durable; err != nil {
			return nil, err
		}
	}
	return answerOfReference, nil
}

// keep appends a record for each call that waits, flushes them together, and only then lets their answers go.
func keep(file *os.File, appends <-chan chan error) {
	record := []byte(strings.Repeat("x", eventSize-1) + "\n")
	for first := range appends {
		calls := []chan error{first}
		for more := true; more && len(calls) < group; {
			select {
			case next := <-appends:
				calls = append(calls, next)
			default:
				more = false
			}
		}
		text := make([]byte, 0, len(calls)*eventSize)
		for range calls {
			text = append(text, record...)
		}
		_, err := file.Write(text)
		if err == nil {
			err = syscall.Fdatasync(int(file.Fd()))
		}
		for _, call := range calls {
			call <- err
		}
	}
}

func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "host:port")
	identity := flags.String("identity", "", "the server's files, without .key, .pem and .roots")
	journal := flags.String("journal", "", "what each call is appended to; without one, a bare echo")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	credentials, err := accept(*identity)
	if err != nil {
		return err
	}
	served := &reference{}
	if *journal != "" {
		file, err := os.OpenFile(*journal, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		served.appends = make(chan chan error, waiting)
		go keep(file, served.appends)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.Creds(credentials), grpc.MaxConcurrentStreams(100)) // as many as the broker
	brokerv1.RegisterExchangeServiceServer(server, served)
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-stopped
		server.Stop()
	}()
	say(map[string]any{"ready": listener.Addr().(*net.TCPAddr).Port})
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}
