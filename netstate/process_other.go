//go:build !linux

package netstate

import (
	"context"

	"github.com/shirou/gopsutil/v3/process"
)

func readStat(ctx context.Context, pid int) (procStat, error) {
	start, err := startToken(pid)
	if err != nil {
		return procStat{}, err
	}
	parent, err := (&process.Process{Pid: int32(pid)}).PpidWithContext(ctx)
	return procStat{parent: int(parent), start: start}, err
}

// controlGroup has no meaning outside Linux.
func controlGroup(int) (unit, container string) { return "", "" }
