package main

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// indexRange is an inclusive range of status indexes.
type indexRange [2]uint32

func expand(ranges []indexRange) []uint32 {
	var values []uint32
	for _, each := range ranges {
		for value := uint64(each[0]); value <= uint64(each[1]); value++ {
			values = append(values, uint32(value))
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// container holds the low halves of the values that share their high half.
type container struct {
	key  uint16
	lows []uint16
}

func containers(ranges []indexRange) []container {
	var found []container
	for _, value := range expand(ranges) {
		key := uint16(value >> 16)
		if len(found) == 0 || found[len(found)-1].key != key {
			found = append(found, container{key: key})
		}
		last := &found[len(found)-1]
		last.lows = append(last.lows, uint16(value))
	}
	return found
}

// plain is a container as a sorted array up to 4096 values, beyond that as 65536 bits.
func (c container) plain() []byte {
	var out []byte
	if len(c.lows) <= 4096 {
		for _, low := range c.lows {
			out = binary.LittleEndian.AppendUint16(out, low)
		}
		return out
	}
	out = make([]byte, 8192)
	for _, low := range c.lows {
		out[low/8] |= 1 << (low % 8)
	}
	return out
}

// runs is a container as runs: their number, then first value and length minus one of each.
func (c container) runs() []byte {
	var out []byte
	count := 0
	for i := 0; i < len(c.lows); {
		j := i
		for j+1 < len(c.lows) && c.lows[j+1] == c.lows[j]+1 {
			j++
		}
		out = binary.LittleEndian.AppendUint16(out, c.lows[i])
		out = binary.LittleEndian.AppendUint16(out, uint16(j-i))
		count, i = count+1, j+1
	}
	return append(binary.LittleEndian.AppendUint16(nil, uint16(count)), out...)
}

// roaring is the portable format (RoaringFormatSpec), without run containers or with nothing but.
func roaring(ranges []indexRange, asRuns bool) []byte {
	const cookie, cookieOfRuns, withoutOffsets = 12346, 12347, 4
	held := containers(ranges)
	var out []byte
	if asRuns {
		out = binary.LittleEndian.AppendUint32(out, uint32(cookieOfRuns|(len(held)-1)<<16))
		flags := make([]byte, (len(held)+7)/8)
		for i := range held {
			flags[i/8] |= 1 << (i % 8)
		}
		out = append(out, flags...)
	} else {
		out = binary.LittleEndian.AppendUint32(out, cookie)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(held)))
	}
	for _, each := range held {
		out = binary.LittleEndian.AppendUint16(out, each.key)
		out = binary.LittleEndian.AppendUint16(out, uint16(len(each.lows)-1))
	}
	var bodies [][]byte
	for _, each := range held {
		if asRuns {
			bodies = append(bodies, each.runs())
		} else {
			bodies = append(bodies, each.plain())
		}
	}
	if !asRuns || len(held) >= withoutOffsets {
		offset := len(out) + 4*len(held)
		for _, body := range bodies {
			out = binary.LittleEndian.AppendUint32(out, uint32(offset))
			offset += len(body)
		}
	}
	return append(out, slices.Concat(bodies...)...)
}

func revocationVectors() pairs {
	rows := []struct {
		id     string
		ranges []indexRange
	}{
		{"none", []indexRange{}},
		{"index-0", []indexRange{{0, 0}}},
		{"largest-index", []indexRange{{1<<32 - 1, 1<<32 - 1}}},
		{"scattered", []indexRange{{3, 3}, {7, 9}, {65535, 65535}}},
		{"two-containers", []indexRange{{65530, 65540}}},
		{"five-containers", []indexRange{{1, 1}, {65536, 65536}, {131072, 131073}, {1 << 20, 1 << 20}, {1 << 31, 1 << 31}}},
		{"array-at-its-limit", []indexRange{{0, 4095}}},
		{"bits", []indexRange{{0, 4096}}},
	}
	var accepted []pairs
	for _, row := range rows {
		vector := pairs{"id", row.id, "ranges", row.ranges, "snapshot", hex.EncodeToString(roaring(row.ranges, false))}
		if len(row.ranges) > 0 { // no container can be a run when there is none
			vector = append(vector, "snapshot_of_runs", hex.EncodeToString(roaring(row.ranges, true)))
		}
		accepted = append(accepted, vector)
	}
	good := roaring(rows[4].ranges, false)
	refused := []pairs{
		{"id", "empty", "snapshot", ""},
		{"id", "cookie-alone", "snapshot", hex.EncodeToString(good[:4])},
		{"id", "another-cookie", "snapshot", hex.EncodeToString(append([]byte{1, 2, 3, 4}, good[4:]...))},
		{"id", "header-cut", "snapshot", hex.EncodeToString(good[:13])},
		{"id", "last-byte-missing", "snapshot", hex.EncodeToString(good[:len(good)-1])},
		{"id", "more-containers-than-bytes", "snapshot", hex.EncodeToString(append(append([]byte{}, good[:4]...), 0xff, 0xff, 0, 0))},
	}
	return pairs{
		"format", "docs/formats/README.md", "accepted", accepted, "refused", refused,
	}
}
