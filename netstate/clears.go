package netstate

import "time"

const (
	// timeWaitLen is TCP_TIMEWAIT_LEN of Linux. tcp_fin_timeout does not
	// change it.
	timeWaitLen = 60 * time.Second
	// worstSlack bounds how long a TIME-WAIT socket can block beyond its own
	// timer where the kernel's HZ is not known: at HZ=100 the timer wheel is
	// coarsest for a timer of 60 s.
	worstSlack = 5120 * time.Millisecond
	// firesLate bounds how long after the end of its slot a socket may still
	// be seen. One tick is common, even on an idle machine.
	firesLate = 20 * time.Millisecond
)

// Wheel is what is known of the kernel's timer wheel, which ends TIME-WAIT
// late: a timer fires at the end of the slot that it falls into, and a slot of
// a timer as long as TIME-WAIT lasts seconds (kernel/time/timer.c). Slots are
// counted in jiffies from 0, so that the counter of jiffies tells where they
// end, and any user may read that (jiffies_linux.go).
type Wheel struct {
	// HZ is the number of jiffies a second.
	HZ int
	// finTimeout is net.ipv4.tcp_fin_timeout, the length of the timer in
	// FIN-WAIT-2.
	finTimeout time.Duration

	// The counter of jiffies stepped to jiffies at edge, which is zero if the
	// counter cannot be read. The width of a slot is known all the same.
	jiffies uint64
	edge    time.Time
	// The kernel worked out what its timers had left at some moment from began
	// until the table was read; zero if that took no time to speak of.
	began time.Time
}

// Clears says when a socket that was read at at stops blocking if nobody does
// anything. Only a timer that runs in the kernel gives an end; a socket that
// waits for its process or its peer has none. A nil Wheel knows nothing of the
// kernel and gives wide bounds.
func (w *Wheel) Clears(s *Socket, at time.Time) Clears {
	if s.Timer != TimerTimeWait {
		return Clears{}
	}
	c := Clears{From: at.Add(s.Expires)}
	c.Until = c.From.Add(worstSlack)
	if w != nil {
		c = w.clears(at, s.Expires, w.length(s.State))
	}
	if s.State == FinWait2 {
		// If the peer's FIN arrives at the last moment, a whole TIME-WAIT
		// follows; otherwise it ends without one.
		c.Until = c.Until.Add(timeWaitLen + worstSlack)
	}
	return c
}

// latest combines what must all end: it is known only if every part is.
func latest(all []Blocker) Clears {
	var last Clears
	for i := range all {
		c := all[i].Clears
		if !c.Known() {
			return Clears{}
		}
		if c.From.After(last.From) {
			last.From = c.From
		}
		if c.Until.After(last.Until) {
			last.Until = c.Until
		}
	}
	return last
}

// Exact reports whether the counter is known, and so the instant of an end. As
// far as measured, the kernel keeps to it or ends the socket a tick later.
func (w *Wheel) Exact() bool { return !w.edge.IsZero() }

// length is the time for which a minisocket's timer was started. A program may
// choose another for its own sockets in FIN-WAIT-2 (TCP_LINGER2), which cannot
// be seen; what is said of their end may be wrong by the slot of either.
func (w *Wheel) length(s State) time.Duration {
	if s == FinWait2 {
		return w.finTimeout
	}
	return timeWaitLen
}

// slot is the width in jiffies of the slot for a timer that was started for a
// time. A level of the wheel has 64 slots, each eight times as wide as those
// of the level below (LVL_BITS 6, LVL_CLK_SHIFT 3).
func (w *Wheel) slot(length time.Duration) uint64 {
	width := uint64(1)
	for reach := w.toJiffies(length); reach >= 63*width && width < 1<<24; width *= 8 {
	}
	return width
}

func (w *Wheel) toJiffies(d time.Duration) uint64 {
	return uint64(d) * uint64(w.HZ) / uint64(time.Second)
}

func (w *Wheel) tick() time.Duration { return time.Second / time.Duration(w.HZ) }

// clears says when a timer fires that was started for length and had left to
// go at at.
func (w *Wheel) clears(at time.Time, left, length time.Duration) Clears {
	slot := w.slot(length)
	began := w.began
	if began.IsZero() || began.After(at) {
		began = at
	}
	if !w.Exact() {
		// What was left was worked out after began, and a timer fires a tick
		// after it is due at the earliest, which makes up for the part of a tick
		// that the kernel does not count.
		return Clears{From: began.Add(left), Until: at.Add(left + time.Duration(slot)*w.tick())}
	}
	// If the counter stepped while the table was read, and only over the edge
	// of a slot, that leaves two answers.
	first, last := w.counter(began)+w.toJiffies(left), w.counter(at)+w.toJiffies(left)
	if left == 0 {
		// The kernel does not say how long ago the timer was due, and it may
		// be about to end the socket at this very moment.
		first -= 1 + w.toJiffies(firesLate)
	}
	fires := func(expires uint64) time.Time {
		edge := (expires/slot + 1) * slot
		return at.Add(w.edge.Sub(at) + time.Duration(edge-w.jiffies)*w.tick())
	}
	return Clears{From: fires(first), Until: fires(last)}
}

// counter is the value of the counter at a moment.
func (w *Wheel) counter(at time.Time) uint64 {
	since, tick := at.Sub(w.edge), w.tick()
	steps := since / tick
	if since%tick < 0 {
		steps--
	}
	return w.jiffies + uint64(steps)
}
