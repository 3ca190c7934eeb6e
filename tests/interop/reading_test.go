package main

import (
	"errors"
	"testing"
)

func TestRanges(t *testing.T) {
	before := &message{From: 0, To: 4}
	for name, row := range map[string]struct {
		message message
		before  *message
		dense   bool
		good    bool
	}{
		"goes on":               {message{From: 4, To: 6, Positions: []uint64{4, 5}}, before, true, true},
		"the first of a reader": {message{From: 9, To: 10, Positions: []uint64{9}}, nil, true, true},
		"a heartbeat":           {message{From: 4, To: 4}, before, true, true},
		"a filter left some":    {message{From: 4, To: 9, Positions: []uint64{5, 8}}, before, false, true},
		"a filter left all":     {message{From: 4, To: 9}, before, false, true},
		"a gap between":         {message{From: 5, To: 6, Positions: []uint64{5}}, before, true, false},
		"something twice":       {message{From: 3, To: 6, Positions: []uint64{3, 4, 5}}, before, true, false},
		"backwards":             {message{From: 4, To: 3}, before, false, false},
		"a gap within":          {message{From: 4, To: 7, Positions: []uint64{4, 6}}, before, true, false},
		"the end is missing":    {message{From: 4, To: 6, Positions: []uint64{4}}, before, true, false},
		"before its range":      {message{From: 4, To: 6, Positions: []uint64{3}}, before, false, false},
		"beyond its range":      {message{From: 4, To: 6, Positions: []uint64{6}}, before, false, false},
		"a position twice":      {message{From: 4, To: 6, Positions: []uint64{5, 5}}, before, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := row.message.follows(row.before, row.dense)
			if (err == nil) != row.good || err != nil && !errors.Is(err, errGap) {
				t.Fatal(err)
			}
		})
	}
}
