package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	brokerv1 "example.org/spiffe-credential-broker/tests/interop/gen/broker/v1"
)

const (
	// The broker sends a heartbeat every 2 s; a stream that says nothing for longer than this is opened anew.
	silence       = 10 * time.Second
	firstPause    = 100 * time.Millisecond
	longestPause  = 5 * time.Second
	streamOfAudit = "audit"
)

// receive returns the next message of a stream.
type receive func() (message, error)

// open opens a stream at a cursor.
type open func(ctx context.Context, cursor string) (receive, error)

// follow reads a stream into a journal until it is refused. It goes on at the last cursor when the connection, the
// broker or the SVID ends that it was opened with.
func (c *client) follow(ctx context.Context, name string, kinds []string, kept *journal) error {
	dense := name == streamOfAudit && len(kinds) == 0
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		broker, err := c.toBroker() // with the SVID that is current
		if err != nil {
			return err
		}
		stream := revocations(broker)
		if name == streamOfAudit {
			stream = audit(broker, kinds)
		}
		before := kept.last
		if err := read(ctx, stream, silence, dense, kept); !errors.Is(err, io.EOF) && !passing(err) {
			return err
		}
		if kept.last != before {
			pause = firstPause
		}
		time.Sleep(pause)
	}
}

// read reads from the journal's cursor on, until the stream ends or says nothing for too long.
func read(ctx context.Context, stream open, silence time.Duration, dense bool, kept *journal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	next, err := stream(ctx, kept.cursor())
	if err != nil {
		return err
	}
	for {
		told, err := next()
		if err != nil {
			return err
		}
		watchdog.Reset(silence)
		if err := told.follows(kept.last, dense); err != nil {
			return err
		}
		if told.From == told.To && kept.last != nil {
			continue // a heartbeat
		}
		if err := kept.write(told); err != nil {
			return fmt.Errorf("cannot keep the journal: %w", err)
		}
	}
}

func audit(broker *grpc.ClientConn, kinds []string) open {
	return func(ctx context.Context, cursor string) (receive, error) {
		request := &brokerv1.SubscribeAuditRequest{Cursor: cursor, Follow: true}
		if len(kinds) > 0 {
			request.Filter = &brokerv1.AuditFilter{Kinds: kinds}
		}
		stream, err := brokerv1.NewAuditServiceClient(broker).SubscribeAudit(ctx, request, grpc.WaitForReady(true))
		if err != nil {
			return nil, err
		}
		return func() (message, error) {
			page, err := stream.Recv()
			told := message{From: page.GetFromPosition(), To: page.GetToPosition(), Cursor: page.GetCursor()}
			for _, event := range page.GetEvents() {
				told.Positions = append(told.Positions, event.GetPosition())
			}
			return told, err
		}, nil
	}
}

func revocations(broker *grpc.ClientConn) open {
	return func(ctx context.Context, cursor string) (receive, error) {
		request := &brokerv1.SubscribeRevocationsRequest{Cursor: cursor}
		service := brokerv1.NewRevocationServiceClient(broker)
		stream, err := service.SubscribeRevocations(ctx, request, grpc.WaitForReady(true))
		if err != nil {
			return nil, err
		}
		return func() (message, error) {
			page, err := stream.Recv()
			told := message{From: page.GetFromPosition(), To: page.GetToPosition(), Cursor: page.GetCursor()}
			told.Snapshot = page.GetSnapshot().GetCredentialIds()
			for _, revoked := range page.GetRevoked() {
				told.Positions = append(told.Positions, revoked.GetPosition())
				told.Revoked = append(told.Revoked, revoked.GetCredentialIds()...)
			}
			return told, err
		}, nil
	}
}
