package netstate

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc/PID/stat. The kernel scales them to
// USER_HZ, which is 100 on every architecture that Go runs on.
const tick = time.Second / 100

// startToken returns the start of the process in ticks since boot.
func startToken(pid int) (uint64, error) {
	stat, err := readStat(context.Background(), pid)
	return stat.start, err
}

// readStat returns parent 0 if it is outside this pid namespace.
func readStat(_ context.Context, pid int) (procStat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(b)
}

// parseStat reads fields 4 (ppid) and 22 (starttime) of proc_pid_stat(5).
// The second field is the name in parentheses, which may itself contain
// spaces and parentheses, so counting begins after the last one.
func parseStat(b []byte) (procStat, error) {
	const (
		first     = 3 // the number of the first field after the name
		parentAt  = 4 - first
		startedAt = 22 - first
	)
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= startedAt {
		return procStat{}, fmt.Errorf("process status has %d fields after the name, expected more than %d", len(fields), startedAt)
	}
	parent, err := strconv.Atoi(string(fields[parentAt]))
	if err != nil {
		return procStat{}, fmt.Errorf("parent in the process status: %w", err)
	}
	start, err := strconv.ParseUint(string(fields[startedAt]), 10, 64)
	if err != nil {
		return procStat{}, fmt.Errorf("start time in the process status: %w", err)
	}
	return procStat{parent: parent, start: start}, nil
}

// startTime turns ticks since boot into a time of day, to the precision of a
// tick. The clock is the one that the kernel stamps processes with; it counts
// time asleep, and a time namespace shifts both alike.
func startTime(id ProcessID) time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Time{}
	}
	age := time.Duration(now.Nano()) - time.Duration(id.Start)*tick
	return time.Now().Add(-age).Truncate(tick)
}

// controlGroup returns the systemd unit and the container of a process, each
// empty if it has none or it may not be read.
func controlGroup(pid int) (unit, container string) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return "", ""
	}
	return parseCgroup(string(b))
}
