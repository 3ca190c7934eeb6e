package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/status"
)

// telling is a stream that tells these messages and then ends, or else says nothing any more.
func telling(ends bool, messages ...message) open {
	return func(ctx context.Context, _ string) (receive, error) {
		return func() (message, error) {
			if len(messages) > 0 {
				next := messages[0]
				messages = messages[1:]
				return next, nil
			}
			if ends {
				return message{}, io.EOF
			}
			<-ctx.Done()
			return message{}, status.FromContextError(ctx.Err()).Err()
		}, nil
	}
}

func emptyJournal(t *testing.T) *journal {
	kept, err := openJournal(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func TestASilentStreamIsOpenedAgain(t *testing.T) {
	kept := emptyJournal(t)
	err := read(context.Background(), telling(false, message{To: 1}), time.Millisecond, false, kept)
	if !passing(err) || kept.last == nil || kept.last.To != 1 {
		t.Fatal(err, kept.last)
	}
}

func TestAGapIsNotPassedOverAndNotKept(t *testing.T) {
	kept := emptyJournal(t)
	stream := telling(true, message{To: 1, Cursor: "one"}, message{From: 2, To: 3, Cursor: "three"})
	err := read(context.Background(), stream, time.Minute, false, kept)
	if !errors.Is(err, errGap) || passing(err) || kept.cursor() != "one" {
		t.Fatal(err, kept.last)
	}
}

func TestAnEndedStreamIsNoGap(t *testing.T) {
	kept := emptyJournal(t)
	stream := telling(true, message{To: 1, Cursor: "one"}, message{From: 1, To: 3, Cursor: "three"})
	err := read(context.Background(), stream, time.Minute, false, kept)
	if !errors.Is(err, io.EOF) || kept.cursor() != "three" {
		t.Fatal(err, kept.last)
	}
}
