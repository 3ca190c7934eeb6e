package main

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
)

// A step is one line of a journal: that a subscriber opened its stream, or a message as it came.
type step struct {
	Name string `json:"name"`
	// The position of the cursor that it was opened with; -1 without one.
	Opened *int64   `json:"opened,omitempty"`
	Told   *message `json:"told,omitempty"`
}

// A message is what both streams have in common, and what in it was told: a position, and then what stands there. Of the
// audit log that is the event's leaf hash, of revocations the status indexes or credential ids that ended.
type message struct {
	Start uint64  `json:"start"`
	Stop  uint64  `json:"stop"`
	Items [][]any `json:"items"`
	// What had ended before the range; in the first message of a reader of revocations without a cursor.
	Snapshot *snapshot `json:"snapshot,omitempty"`
	Size     uint64    `json:"size"`
	At       int64     `json:"at"` // microseconds since 1970
}

type snapshot struct {
	Indexes     []byte   `json:"indexes"` // a roaring bitmap
	Credentials []string `json:"credentials"`
}

// A journal is what all subscribers of this program write into, in the order of writing.
type journal struct {
	lock sync.Mutex
	file *os.File
	text *bufio.Writer
}

func openJournal(path string) (*journal, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &journal{file: file, text: bufio.NewWriterSize(file, 1<<20)}, nil
}

func (j *journal) write(told step) error {
	line, err := json.Marshal(told)
	if err != nil {
		return err
	}
	j.lock.Lock()
	defer j.lock.Unlock()
	_, err = j.text.Write(append(line, '\n'))
	return err
}

func (j *journal) close() error {
	j.lock.Lock()
	defer j.lock.Unlock()
	if err := j.text.Flush(); err != nil {
		return err
	}
	return j.file.Close()
}
