package netstate

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v3/process"
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
	b, err := readProc(pid, "stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(b)
}

// parseStat reads fields 2 (comm), 4 (ppid) and 22 (starttime) of
// proc_pid_stat(5). The name is in parentheses and may itself contain spaces
// and parentheses, so counting begins after the last one.
func parseStat(b []byte) (procStat, error) {
	const (
		first     = 3 // the number of the first field after the name
		parentAt  = 4 - first
		startedAt = 22 - first
	)
	from, to := bytes.IndexByte(b, '(')+1, bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[to+1:])
	if from == 0 || to < from || len(fields) <= startedAt {
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
	return procStat{parent: parent, start: start, name: string(b[from:to])}, nil
}

// processName returns the short name. The kernel keeps 15 bytes of it
// (TASK_COMM_LEN); of a longer one, the rest is in the command line unless
// the process has changed either.
func processName(ctx context.Context, pid int, stat procStat) string {
	const kept = 15
	name := stat.name
	if strings.Contains(name, `\`) {
		// Some kernels escape line ends and backslashes in stat and others do
		// not; in comm none does.
		if b, err := readProc(pid, "comm"); err == nil {
			name = strings.TrimSuffix(string(b), "\n")
		}
	}
	if len(name) < kept {
		return name
	}
	argv, err := (&process.Process{Pid: int32(pid)}).CmdlineSliceWithContext(ctx)
	if err == nil && len(argv) > 0 {
		if long := filepath.Base(argv[0]); strings.HasPrefix(long, name) {
			return long
		}
	}
	return name
}

// processUser returns the effective user, as ps(1) does. An unknown number is
// -1. Gopsutil is not asked, since it takes the numbers above 1<<31, which
// user namespaces are given, for an error.
func processUser(_ context.Context, pid int) (name string, uid int) {
	b, err := readProc(pid, "status")
	if err != nil {
		return "", -1
	}
	if uid = effectiveUID(b); uid < 0 {
		return "", -1
	}
	return accountName(uid), uid
}

// effectiveUID reads the second of the four numbers behind "Uid:" in
// proc_pid_status(5); -1 if they are not there. A name cannot pass for that
// line, because the kernel escapes line ends in it.
func effectiveUID(status []byte) int {
	_, rest, _ := bytes.Cut(status, []byte("\nUid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if fields := bytes.Fields(line); len(fields) == 4 {
		if uid, err := strconv.ParseUint(string(fields[1]), 10, 32); err == nil {
			return int(uid)
		}
	}
	return -1
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
	b, err := readProc(pid, "cgroup")
	if err != nil {
		return "", ""
	}
	return parseCgroup(string(b))
}

// readProc reads one of the small files of /proc/PID. It goes around package
// os, which would first offer the file to the network poller: that is nine
// system calls for a file instead of four.
func readProc(pid int, name string) ([]byte, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/" + name
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 2<<10) // more than stat or status takes
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return b, nil
		}
		b = b[:len(b)+n]
		b = slices.Grow(b, 1)
	}
}
