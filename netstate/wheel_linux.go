package netstate

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// wheelReader finds out what it may about the timer wheel. A nil one knows
// nothing.
type wheelReader struct {
	hz         int
	finTimeout time.Duration
	clock      *jiffyClock // nil if the counter cannot be read
}

// openWheel is nil if not even HZ is known.
func openWheel() *wheelReader {
	hz := coarseHZ()
	if hz == 0 {
		return nil
	}
	return &wheelReader{hz: hz, finTimeout: finTimeout(), clock: openJiffies(hz)}
}

// read makes the Wheel for a table whose reading began at began and is over.
// It costs about a microsecond and is done each time, so that a reading of the
// counter that was a tick late is right the next time.
func (r *wheelReader) read(began time.Time) *Wheel {
	if r == nil {
		return nil
	}
	w := &Wheel{HZ: r.hz, finTimeout: r.finTimeout, began: began}
	if r.clock != nil {
		w.jiffies, w.edge, _ = r.clock.read()
	}
	return w
}

func (r *wheelReader) close() {
	if r != nil && r.clock != nil {
		r.clock.close()
	}
}

// coarseHZ reads the resolution of the coarse clock, which steps once a jiffy.
// It is 0 if that is none that a Linux kernel has.
func coarseHZ() int {
	var ts unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil || ts.Sec != 0 || ts.Nsec == 0 {
		return 0
	}
	if hz := math.Round(1e9 / float64(ts.Nsec)); hz >= 24 && hz <= 1200 {
		return int(hz)
	}
	return 0
}

// finTimeout reads net.ipv4.tcp_fin_timeout of this network namespace.
func finTimeout() time.Duration {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_fin_timeout")
	var seconds int
	if err == nil {
		_, err = fmt.Fscan(strings.NewReader(string(b)), &seconds)
	}
	if err != nil {
		return timeWaitLen
	}
	return time.Duration(seconds) * time.Second
}
