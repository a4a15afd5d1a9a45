//go:build !linux

package netstate

import (
	"context"

	"github.com/shirou/gopsutil/v3/process"
)

func parentOf(ctx context.Context, pid int) (int, error) {
	parent, err := (&process.Process{Pid: int32(pid)}).PpidWithContext(ctx)
	return int(parent), err
}

// controlGroup has no meaning outside Linux.
func controlGroup(int) (unit, container string) { return "", "" }
