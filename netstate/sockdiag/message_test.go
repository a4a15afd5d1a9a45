package sockdiag

import (
	"encoding/binary"
	"errors"
	"testing"
)

// FuzzParse feeds the parser what no kernel would send. It must never panic
// or loop, and a record that it accepts must come from a whole message.
func FuzzParse(f *testing.F) {
	f.Add(appendDump(nil, 1, Query{States: AllStates, Port: 80}))
	f.Add(appendDestroy(nil, 2, &Record{Family: 2, State: 6, LocalPort: 80, Cookie: 1 << 40}, true))
	f.Add(record(10, 7, map[uint16][]byte{attrSkV6Only: {1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			m, rest, err := next(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatalf("no progress: %d bytes left of %d", len(rest), len(b))
			}
			var r Record
			if err := r.parse(m.body); err == nil && len(m.body) < sizeMsg {
				t.Fatalf("accepted a body of %d bytes", len(m.body))
			}
			if _, err := errno(m.body); err == nil && len(m.body) < 4 {
				t.Fatal("read a code from nothing")
			}
			b = rest
		}
	})
}

// record builds an answer as the kernel lays it out.
func record(family, state uint8, attrs map[uint16][]byte) []byte {
	body := make([]byte, sizeMsg)
	body[0], body[1] = family, state
	binary.BigEndian.PutUint16(body[4:], 18789)
	for typ, v := range attrs {
		a := make([]byte, align(4+len(v)))
		binary.NativeEndian.PutUint16(a, uint16(4+len(v)))
		binary.NativeEndian.PutUint16(a[2:], typ)
		copy(a[4:], v)
		body = append(body, a...)
	}
	return append(appendHeader(nil, sizeHeader+len(body), typeFamily, 0, 1), body...)
}

func TestParseV6Only(t *testing.T) {
	for _, want := range []bool{false, true} {
		v := byte(0)
		if want {
			v = 1
		}
		m, _, err := next(record(10, 10, map[uint16][]byte{8: {3}, attrSkV6Only: {v}, 21: make([]byte, 8)}))
		if err != nil {
			t.Fatal(err)
		}
		var r Record
		if err := r.parse(m.body); err != nil {
			t.Fatal(err)
		}
		if !r.HasV6Only || r.V6Only != want || r.LocalPort != 18789 {
			t.Errorf("got %+v, want v6only %v", r, want)
		}
	}
}

func TestTruncated(t *testing.T) {
	whole := record(2, 10, nil)
	for n := range len(whole) {
		m, _, err := next(whole[:n])
		if err == nil {
			err = new(Record).parse(m.body)
		}
		if !errors.Is(err, errTruncated) {
			t.Errorf("%d bytes: got %v, want %v", n, err, errTruncated)
		}
	}
}
