package netstate

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// startToken returns the start of the process in microseconds since 1970. A
// process that has ended and waits for its parent to notice counts as gone:
// it holds no socket.
func startToken(pid int) (uint64, error) {
	const zombie = 5 // SZOMB in sys/proc.h
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	switch {
	case errors.Is(err, unix.EIO): // the answer for an unknown pid is empty
		return 0, fs.ErrNotExist
	case err != nil:
		return 0, err
	case k.Proc.P_stat == zombie:
		return 0, fs.ErrNotExist
	}
	return uint64(k.Proc.P_starttime.Nano() / 1000), nil
}

func startTime(id ProcessID) time.Time { return time.UnixMicro(int64(id.Start)) }
