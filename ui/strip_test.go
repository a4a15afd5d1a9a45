package ui

import (
	"strings"
	"testing"
	"time"

	"berth/netstate"
	"berth/ui/theme"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

// TestStrip draws a restart that takes 40 ms on columns of a second.
func TestStrip(t *testing.T) {
	var h history
	tr := h.open(placeID{port: 80})
	for _, s := range []sample{
		{at: at(2), listen: 1, estab: 4, bind: netstate.No},
		{at: at(5.10), wait: 4, bind: netstate.No},
		{at: at(5.12), wait: 4, bind: netstate.Yes},
		{at: at(5.14), listen: 1, wait: 4, bind: netstate.No},
		{at: at(7), gap: true},
		{at: at(8), listen: 1, estab: 2, wait: 4, bind: netstate.No},
	} {
		tr.add(s)
	}
	s := strip{track: tr, from: at(0), step: time.Second, cols: 12, now: at(9.5), zero: at(10)}
	var got []string
	for _, row := range s.rows(theme.Mono(), 40) {
		got = append(got, strings.TrimRight(plain(row), " "))
	}
	want := []string{
		" LISTEN       ●━━·● ●━   1",
		" ESTAB        ▇▇▇▇· ▄▄   2",
		" TIME-WAIT    ···▇▇ ▇▇   4",
		" BIND         ✗━━✓✗ ✗━   ✗ taken",
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("line %d:\n got %q\nwant %q", i, got[i], want[i])
		}
	}
	if got, want := plain(s.axis(theme.Mono(), 40)), "-10 s"; !strings.Contains(got, want) {
		t.Errorf("axis %q", got)
	}
}

func TestHistory(t *testing.T) {
	var h history
	own := map[uint64]bool{0: true}
	row := func(listen, wait int) portRow {
		return portRow{place: place{port: 80}, listen: listen, wait: wait, sockets: make([]netstate.Socket, listen+wait)}
	}
	h.record(at(0), own, []portRow{row(1, 0)})
	h.record(at(1), own, []portRow{row(1, 0)})
	if n := len(h.of(placeID{port: 80}).samples); n != 1 {
		t.Errorf("%d samples of a port that did not change, want 1", n)
	}
	h.record(at(2), own, []portRow{row(0, 3)})
	h.record(at(3), own, nil) // gone
	for _, c := range []struct {
		at           float64
		listen, wait int
		ok           bool
	}{{-1, 0, 0, false}, {0, 1, 0, true}, {1.9, 1, 0, true}, {2, 0, 3, true}, {3, 0, 0, true}, {99, 0, 0, true}} {
		s, ok := h.of(placeID{port: 80}).when(at(c.at))
		if ok != c.ok || s.listen != c.listen || s.wait != c.wait {
			t.Errorf("at %v s: %+v, %v; want %+v", c.at, s, ok, c)
		}
	}
	h.probed(placeID{port: 80}, at(2.5), true) // arrived late: it must not fall before its predecessor
	if s := h.of(placeID{port: 80}).last(); s.at != at(3) || s.bind != netstate.Yes {
		t.Errorf("the probe became %+v", s)
	}
	h.record(at(4), own, []portRow{{place: place{port: 80}}})
	if s := h.of(placeID{port: 80}).last(); s.bind != netstate.Yes {
		t.Errorf("an empty port is no longer known to be free: %+v", s)
	}
	for i := range 400 {
		h.record(at(5+float64(i)), own, []portRow{row(1, i%2)})
	}
	if n, most := len(h.of(placeID{port: 80}).samples), int(window/time.Second)+2; n > most {
		t.Errorf("%d samples are kept, want at most %d", n, most)
	}
	for i := range 400 {
		h.record(at(500+float64(i)), own, nil)
	}
	if h.of(placeID{port: 80}) != nil {
		t.Error("a port that is gone for minutes is still kept")
	}
}
