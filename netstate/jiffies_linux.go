package netstate

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxBootLag bounds how far the counter may trail the monotonic clock: the
	// ticks of the first moments of booting are lost. A value that is further
	// off is not the counter.
	maxBootLag = 30 * time.Second
	// maxStale is how many ticks late the counter may be updated while the CPU
	// that does so is held up (MAX_STALLED_JIFFIES of kernel/time/tick-sched.c).
	maxStale = 5
)

// jiffyClock relates jiffies, the counter of ticks by which the kernel's
// timers run, to the monotonic clock. It is not safe for concurrent use.
//
// The two do not drift: the counter is advanced by as many ticks as the
// monotonic clock, slewed by NTP or not, has passed since the last advance
// (tick_do_update_jiffies64), and both stand still while the machine is
// suspended. A tick begins at a multiple of its length on that clock. Kernels
// from 4.19 to 6.3 may begin it later, at an offset that they chose at boot,
// and what is computed from it is then early by less than a tick.
type jiffyClock struct {
	hz int
	// counter reads the counter; want is about what it should be.
	counter func(want uint64) (jiffies uint64, ok bool)
	fd      int       // the socket that counter asks; -1 if it asks none
	start   time.Time // when the kernel's monotonic clock was at 0
	// behind is by how many ticks the counter trails the clock. It is a
	// constant, and what a reading gives is never less: a counter not yet
	// updated, or an interruption before the clock is read, only adds to it.
	behind int64
	known  bool
}

// openJiffies finds a way to read the counter. It is nil if there is none.
func openJiffies(hz int) *jiffyClock {
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP); err == nil {
		c := newJiffyClock(hz, func(want uint64) (uint64, bool) { return tcpJiffies(fd, hz, want) })
		c.fd = fd
		if _, _, ok := c.read(); ok {
			return c
		}
		c.close()
	}
	c := newJiffyClock(hz, func(uint64) (uint64, bool) { return timerListJiffies() })
	if _, _, ok := c.read(); ok {
		return c
	}
	return nil
}

func newJiffyClock(hz int, counter func(want uint64) (uint64, bool)) *jiffyClock {
	c := &jiffyClock{hz: hz, counter: counter, fd: -1}
	// time.Time runs by the monotonic clock, but hides where that began. A
	// process may be interrupted between reading the one and the other; in the
	// closest pair it was not.
	closest := time.Duration(math.MaxInt64)
	for range 5 {
		var ts unix.Timespec
		before := time.Now()
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // which every Linux has
		if took := time.Since(before); took < closest {
			closest, c.start = took, before.Add(-time.Duration(ts.Nano()))
		}
	}
	c.start = c.start.Add(timeNamespaceShift())
	return c
}

func (c *jiffyClock) close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// read says that the counter stepped, or steps, to jiffies at edge, which is
// less than a tick ago.
func (c *jiffyClock) read() (jiffies uint64, edge time.Time, ok bool) {
	tick := time.Second / time.Duration(c.hz)
	lag := int64(maxBootLag / tick)
	least, got := int64(0), false
	for range 3 {
		// The counter starts 300 s before its 32 bits overflow (INITIAL_JIFFIES).
		want := uint64(1<<32) - uint64(300*c.hz) + uint64(c.now()/tick)
		value, ok := c.counter(want)
		if off := int64(value - want); !ok || off > lag || off < -lag {
			continue
		}
		if behind := int64(c.now()/tick) - int64(value); !got || behind < least {
			least, got = behind, true
		}
	}
	// A counter that falls further behind than it can while it is merely late
	// has really lost ticks, as one that counts interrupts can.
	if got && (!c.known || least < c.behind || least > c.behind+maxStale) {
		c.behind, c.known = least, true
	}
	now := c.now()
	return uint64(int64(now/tick) - c.behind), c.start.Add(now.Truncate(tick)), c.known
}

// now is the time on the kernel's own monotonic clock.
func (c *jiffyClock) now() time.Duration { return time.Since(c.start) }

// tcpJiffies reads the counter off a TCP socket that was never connected: its
// tcpi_last_data_sent is the time since it last sent, in milliseconds, and
// since it never did the kernel subtracts 0 from the counter (tcp_get_info).
// No right is needed for that.
func tcpJiffies(fd, hz int, want uint64) (uint64, bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	// A system that only imitates Linux leaves the field at 0.
	if err != nil || info.Last_data_sent == 0 {
		return 0, false
	}
	return jiffiesOf(info.Last_data_sent, hz, want)
}

// jiffiesOf undoes what makes milliseconds of the counter: its lower 32 bits
// are converted (jiffies_to_msecs, which rounds up) and the lower 32 bits of
// that are kept. Of the values that this leaves, it takes the one nearest to
// want; they are 2^30 jiffies apart or more.
func jiffiesOf(ms uint32, hz int, want uint64) (uint64, bool) {
	millis := func(jiffies uint32) uint64 { return (uint64(jiffies)*1000 + uint64(hz) - 1) / uint64(hz) }
	near := millis(uint32(want))
	full := near + uint64(int64(int32(ms-uint32(near))))
	// The lower 32 bits of counter and want may differ by an overflow.
	jiffies := want + uint64(int64(int32(uint32(full*uint64(hz)/1000)-uint32(want))))
	return jiffies, uint32(millis(uint32(jiffies))) == ms
}

// timerListJiffies reads the counter from /proc/timer_list, which only root
// may do, and which makes the kernel write about every timer that it has.
func timerListJiffies() (uint64, bool) {
	text, err := os.ReadFile("/proc/timer_list")
	if err != nil {
		return 0, false
	}
	return parseTimerList(text)
}

// parseTimerList takes the first of the readings of the counter, of which
// there is one for each CPU.
func parseTimerList(text []byte) (jiffies uint64, ok bool) {
	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte("jiffies: ")); found {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(rest)), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// timeNamespaceShift is what this process's monotonic clock has been moved by
// (time_namespaces(7)). Where it cannot be read it counts as 0, and if that is
// wrong the counter does not look like one.
func timeNamespaceShift() time.Duration {
	text, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return 0
	}
	return parseTimeOffsets(text)
}

func parseTimeOffsets(text []byte) time.Duration {
	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte("monotonic ")); found {
			var seconds, nanos int64
			if _, err := fmt.Sscan(string(rest), &seconds, &nanos); err == nil {
				return time.Duration(seconds)*time.Second + time.Duration(nanos)
			}
		}
	}
	return 0
}
