package netstate

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// readWheel finds out what it may about the timer wheel; nil if not even HZ
// is known. Everything but the counter is public.
func readWheel() *Wheel {
	w := &Wheel{finTimeout: finTimeout()}
	at := time.Now()
	if text, err := os.ReadFile("/proc/timer_list"); err == nil {
		if jiffies, mono, ok := parseTimerList(text); ok {
			w.jiffies, w.mono, w.at = jiffies, mono, at
			w.HZ = hzOf(jiffies, mono)
		}
	}
	if w.HZ == 0 {
		w.at = time.Time{}
		w.HZ = coarseHZ()
	}
	if w.HZ == 0 {
		return nil
	}
	return w
}

// parseTimerList reads the two clocks at the top of /proc/timer_list.
func parseTimerList(text []byte) (jiffies uint64, mono time.Duration, ok bool) {
	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte("now at ")); found {
			n, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" nsecs"))), 10, 64)
			if err != nil {
				return 0, 0, false
			}
			mono = time.Duration(n)
		}
		if rest, found := bytes.CutPrefix(line, []byte("jiffies: ")); found && mono > 0 {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(rest)), 10, 64)
			return n, mono, err == nil
		}
	}
	return 0, 0, false
}

// hzOf works HZ out from one reading: the counter starts 300 s before its
// 32-bit overflow (INITIAL_JIFFIES). It is 0 if the result is none of the
// values that kernels are built with.
func hzOf(jiffies uint64, mono time.Duration) int {
	for _, hz := range []int{100, 250, 300, 1000} {
		started := float64(1<<32) - 300*float64(hz)
		// Booting takes a moment before the two clocks run together.
		if math.Abs(float64(jiffies)-started-mono.Seconds()*float64(hz)) < 2*float64(hz) {
			return hz
		}
	}
	return 0
}

// coarseHZ reads the resolution of the coarse clock, which steps once a jiffy.
func coarseHZ() int {
	var ts unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil || ts.Sec != 0 || ts.Nsec == 0 {
		return 0
	}
	return int(math.Round(1e9 / float64(ts.Nsec)))
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
