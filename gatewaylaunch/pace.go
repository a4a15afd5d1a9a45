package gatewaylaunch

import "time"

const (
	// growMost bounds the back-off: pauses double up to this many times the
	// interval. With the default interval that is 4 s, which no person takes
	// for a hang, and rare enough that starting a heavy server over and over
	// does not occupy the machine.
	growMost = 8
	// loopLimit ends a launch whose attempts are refused so many times in a row
	// although nothing seemed to be in the way. By then the longest pause has
	// been tried twice, and another attempt is no experiment any more.
	loopLimit = 6
)

// pace is how a launch goes on after refused attempts. It reads no clock.
type pace struct {
	Retry
	began  time.Time
	waited time.Duration // in pauses
	// quick counts the attempts in a row that were refused although nothing
	// seemed to be in the way when they were started.
	quick int
}

// left is what remains of the time to wait. Attempts take as long as they
// take: only where the caller gave the time of everything they count.
func (p *pace) left(now time.Time) time.Duration {
	if p.For > 0 {
		return max(0, p.began.Add(p.For).Sub(now))
	}
	return max(0, p.budget()-p.waited)
}

// again reports whether another attempt may follow after so many.
func (p *pace) again(attempts int, now time.Time) bool {
	if p.For > 0 {
		return p.left(now) > 0
	}
	return attempts < p.attempts() && (p.left(now) > 0 || p.Interval <= 0)
}

// refused notes a refused attempt; held is set if the port was known to be
// taken when it was started, so that it says nothing new.
func (p *pace) refused(held bool) {
	if !held {
		p.quick++
	}
}

// paused notes a pause. One in which the port was really taken for longer than
// any back-off is not part of a loop.
func (p *pace) paused(took time.Duration, taken bool) {
	p.waited += took
	if taken && took > growMost*p.Interval {
		p.quick = 0
	}
}

// looping reports whether a further attempt is pointless.
func (p *pace) looping() bool { return p.quick >= loopLimit }

// blind is the pause if there is nothing that could be waited for.
func (p *pace) blind() time.Duration { return p.Interval * grow(p.quick) }

// floor is the least pause if there is: a port that becomes free is taken at
// once the first time, and less and less hastily when that was in vain.
func (p *pace) floor() time.Duration {
	if p.quick < 2 {
		return 0
	}
	return p.Interval * grow(p.quick-1)
}

// grow is 1, 2, 4, 8, 8, … for 1, 2, 3, 4, 5, ….
func grow(n int) time.Duration { return time.Duration(min(1<<max(0, min(n-1, 10)), growMost)) }
