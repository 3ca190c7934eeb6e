package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// A journal keeps what a stream told and the cursor after it in one line, so that a program killed at any moment has
// either both or neither: what is delivered at least once is written once.
type journal struct {
	file *os.File
	last *message // nil when nothing was ever told
}

// openJournal opens a journal, drops a line that was not finished, and reads where to go on.
func openJournal(path string) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	found, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	whole := found[:bytes.LastIndexByte(found, '\n')+1]
	if err := file.Truncate(int64(len(whole))); err != nil {
		return nil, err
	}
	kept := &journal{file: file}
	if lines := bytes.Split(bytes.TrimSpace(whole), []byte("\n")); len(whole) > 0 {
		kept.last = &message{}
		if err := json.Unmarshal(lines[len(lines)-1], kept.last); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return kept, nil
}

// cursor returns where to go on; empty for a reader that was never told anything.
func (j *journal) cursor() string {
	if j.last == nil {
		return ""
	}
	return j.last.Cursor
}

// write makes a message and its cursor durable.
func (j *journal) write(told message) error {
	line, err := json.Marshal(told)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return err
	}
	j.last = &told
	return j.file.Sync()
}
