package netstate

import "time"

const (
	// timerSlack is how long a TIME-WAIT socket can block beyond its own
	// timer: the timer wheel fires up to one granule of 2.048 s late
	// (measured 0.09–1.92 s at HZ=250).
	timerSlack = 2048 * time.Millisecond
	// timeWait is TCP_TIMEWAIT_LEN of Linux. tcp_fin_timeout does not change it.
	timeWait = 60 * time.Second
)

// ClearsOf says when a socket that was read at at stops blocking if nobody
// does anything. Only a timer that runs in the kernel gives an end; a socket
// that waits for its process or its peer has none.
func ClearsOf(s *Socket, at time.Time) Clears {
	if s.Timer != TimerTimeWait {
		return Clears{}
	}
	end := at.Add(s.Expires)
	if s.State == FinWait2 {
		// If the peer's FIN arrives at the last moment, a whole TIME-WAIT
		// follows; otherwise it ends without one.
		return Clears{From: end, Until: end.Add(timeWait + 2*timerSlack)}
	}
	return Clears{From: end, Until: end.Add(timerSlack)}
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
