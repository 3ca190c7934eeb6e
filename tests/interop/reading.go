package main

import (
	"errors"
	"fmt"
)

// errGap says that a stream left something of its log out, or said something twice. It is never mended by asking again.
var errGap = errors.New("the stream does not fit together")

// A message is what both streams have in common: the range of the log that it covers, and what in it was to be told.
type message struct {
	From      uint64   `json:"from"`
	To        uint64   `json:"to"`
	Positions []uint64 `json:"positions"`
	// What was revoked, by credential id; of the revocation stream alone.
	Revoked []string `json:"revoked,omitempty"`
	// What had been revoked before the range; in the first message of a reader without a cursor.
	Snapshot []string `json:"snapshot,omitempty"`
	Cursor   string   `json:"cursor"`
}

// follows checks that this message goes on where the one before ended and stays within the range that it states.
// Dense streams tell every position of their ranges. Without one before, any beginning is good.
func (m message) follows(before *message, dense bool) error {
	if before != nil && m.From != before.To {
		return fmt.Errorf("%w: it goes on at %d instead of %d", errGap, m.From, before.To)
	}
	if m.From > m.To {
		return fmt.Errorf("%w: a range from %d to %d", errGap, m.From, m.To)
	}
	next := m.From
	for _, position := range m.Positions {
		if position < next || position >= m.To || dense && position != next {
			return fmt.Errorf("%w: position %d where %d may come, in [%d, %d)", errGap, position, next, m.From, m.To)
		}
		next = position + 1
	}
	if dense && next != m.To {
		return fmt.Errorf("%w: nothing at %d, in [%d, %d)", errGap, next, m.From, m.To)
	}
	return nil
}
