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

// TestWheelCovers: whatever the phase, the real end of a timer lies within
// what is said of it without the counter, and with it, it is one instant.
func TestWheelCovers(t *testing.T) {
	edge := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	w := &Wheel{HZ: 250, jiffies: 4296174825, edge: edge}
	blind := &Wheel{HZ: 250}
	for ms := -4096; ms < 4096; ms += 7 {
		at := edge.Add(time.Duration(ms) * time.Millisecond)
		c := w.clears(at, time.Minute, time.Minute)
		b := blind.clears(at, time.Minute, time.Minute)
		if !c.From.Equal(c.Until) {
			t.Errorf("read %d ms later: two answers, %v and %v", ms, c.From.Sub(at), c.Until.Sub(at))
		}
		if c.From.Before(b.From) || c.Until.After(b.Until) {
			t.Errorf("read %d ms later: the exact end %v is outside %v to %v", ms, c.Until.Sub(at), b.From.Sub(at), b.Until.Sub(at))
		}
		if since := c.Until.Sub(edge); since%w.tick() != 0 || (w.jiffies+uint64(since/w.tick()))%512 != 0 {
			t.Errorf("read %d ms later: %v after an edge is none", ms, since)
		}
	}
}

// TestWheelAtTheEdgeOfASlot: a table that was read across the edge of a slot
// leaves two ends, and so does a timer that was due at an unknown moment.
func TestWheelAtTheEdgeOfASlot(t *testing.T) {
	const slot = 2048 * time.Millisecond
	edge := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	w := Wheel{HZ: 250, jiffies: 512 * 8_000_000, edge: edge} // an edge of a slot
	at := func(ms int) time.Time { return edge.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct {
		name         string
		began, ended int // ms after the edge
		left         time.Duration
		from, until  time.Duration // after the edge
	}{
		{"within a slot", 3, 40, 512 * 4 * time.Millisecond, 2 * slot, 2 * slot},
		{"across the edge", -1, 1, slot, slot, 2 * slot},
		{"the last jiffy of a slot", -4, -1, slot, slot, slot},
		{"the first jiffy of a slot", 0, 3, slot, 2 * slot, 2 * slot},
		{"due, well within a slot", 500, 501, 0, slot, slot},
		{"due, the slot just over", 2, 3, 0, 0, slot},
	} {
		w.began = at(c.began)
		got := w.clears(at(c.ended), c.left, time.Minute)
		if from, until := got.From.Sub(edge), got.Until.Sub(edge); from != c.from || until != c.until {
			t.Errorf("%s: from %v until %v, want %v and %v", c.name, from, until, c.from, c.until)
		}
	}
}

// TestWheelWhileTheTableIsRead: what a timer has left is worked out at some
// moment of the reading, which takes milliseconds, and either end of it counts.
func TestWheelWhileTheTableIsRead(t *testing.T) {
	began := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	at := began.Add(7 * time.Millisecond)
	w := &Wheel{HZ: 250, began: began}
	got := w.clears(at, 2*time.Second, 2*time.Second)
	if want := (Clears{From: began.Add(2 * time.Second), Until: at.Add(2*time.Second + 8*4*time.Millisecond)}); got != want {
		t.Errorf("from %v until %v, want %v and %v", got.From.Sub(began), got.Until.Sub(began), want.From.Sub(began), want.Until.Sub(began))
	}
}
