package netstate

import (
	"io/fs"
	"slices"
	"time"

	"github.com/shirou/gopsutil/v3/process"
)

// startToken returns the start of the process in milliseconds since 1970. A
// process that has ended and waits for its parent to notice counts as gone:
// it holds no socket.
func startToken(pid int) (uint64, error) {
	p := &process.Process{Pid: int32(pid)}
	ms, err := p.CreateTime()
	if err != nil {
		return 0, err
	}
	if status, err := p.Status(); err != nil || slices.Contains(status, process.Zombie) {
		return 0, fs.ErrNotExist
	}
	return uint64(ms), nil
}

func startTime(id ProcessID) time.Time { return time.UnixMilli(int64(id.Start)) }
