package main

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestEveryAnswerHasItsRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	served := &reference{appends: make(chan chan error, waiting)}
	go keep(file, served.appends)
	var calls sync.WaitGroup
	for range 500 {
		calls.Go(func() {
			if _, err := served.Exchange(context.Background(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if found, err := os.ReadFile(path); err != nil || len(found) != 500*eventSize {
		t.Fatal(len(found), err)
	}
}

func TestWithoutItsRecordThereIsNoAnswer(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "journal")
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil { // nothing can be written to it
		t.Fatal(err)
	}
	served := &reference{appends: make(chan chan error, waiting)}
	go keep(file, served.appends)
	if _, err := served.Exchange(context.Background(), nil); err == nil {
		t.Fatal("it was answered")
	}
}
