package netstate

import (
	"testing"
	"time"
)

func TestSlot(t *testing.T) {
	// The widths for a TIME-WAIT of 60 s that kernel.md lists: 5.12, 2.048,
	// 1.71 and 4.096 s.
	for _, c := range []struct {
		hz     int
		length time.Duration
		want   uint64
	}{
		{100, timeWaitLen, 512}, {250, timeWaitLen, 512}, {300, timeWaitLen, 512}, {1000, timeWaitLen, 4096},
		{250, 2 * time.Second, 8}, {250, 3 * time.Second, 64}, {250, 100 * time.Millisecond, 1},
	} {
		if got := (&Wheel{HZ: c.hz}).slot(c.length); got != c.want {
			t.Errorf("HZ=%d, %v: %d jiffies, want %d", c.hz, c.length, got, c.want)
		}
	}
}

func TestHZ(t *testing.T) {
	for _, c := range []struct {
		jiffies uint64
		mono    time.Duration
		want    int
	}{
		{4296174825, 5130361460150 * time.Nanosecond, 250},
		{1<<32 - 300*1000 + 1000*1000, 1000 * time.Second, 1000},
		{1<<32 - 300*100 + 5*100, 5 * time.Second, 100},
		{7, time.Hour, 0},
	} {
		if got := hzOf(c.jiffies, c.mono); got != c.want {
			t.Errorf("%d jiffies at %v: HZ %d, want %d", c.jiffies, c.mono, got, c.want)
		}
	}
}

// TestWheelCovers: whatever the phase, the real end of a timer lies within
// what is said of it, and with the counter known that is one or two instants.
func TestWheelCovers(t *testing.T) {
	base := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	w := &Wheel{HZ: 250, jiffies: 4296174825, mono: 5130361460150 * time.Nanosecond, at: base}
	blind := &Wheel{HZ: 250}
	two := 0
	for ms := 0; ms < 4096; ms += 7 {
		at := base.Add(time.Duration(ms) * time.Millisecond)
		c := w.clears(at, time.Minute, time.Minute)
		b := blind.clears(at, time.Minute, time.Minute)
		if c.From.Before(at.Add(time.Minute-w.tick())) || c.Until.After(at.Add(time.Minute+2052*time.Millisecond)) {
			t.Errorf("read %d ms later: from %v until %v", ms, c.From.Sub(at), c.Until.Sub(at))
		}
		if c.Until.Before(b.From) || c.Until.After(b.Until.Add(w.tick())) {
			t.Errorf("read %d ms later: the exact end %v is outside %v to %v", ms, c.Until.Sub(at), b.From.Sub(at), b.Until.Sub(at))
		}
		if !c.From.Equal(c.Until) {
			two++
		}
	}
	if two > 10 {
		t.Errorf("%d of 586 readings left two answers", two)
	}
}

func TestParseTimerList(t *testing.T) {
	j, m, ok := parseTimerList([]byte("Timer List Version: v0.10\nnow at 5130361460150 nsecs\n\ncpu: 0\n  .last_jiffies   : 7\njiffies: 4296174825\n"))
	if !ok || j != 4296174825 || m != 5130361460150 {
		t.Errorf("got %d, %d, %v", j, m, ok)
	}
	for _, bad := range []string{"", "jiffies: 5\n", "now at x nsecs\njiffies: 5\n", "now at 5 nsecs\njiffies: x\n"} {
		if _, _, ok := parseTimerList([]byte(bad)); ok {
			t.Errorf("%q was understood", bad)
		}
	}
}
