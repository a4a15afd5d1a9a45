//go:build !linux

package netstate

import (
	"context"

	"github.com/shirou/gopsutil/v3/process"
)

// readStat leaves the name out, which processName gets by a call of its own.
func readStat(ctx context.Context, pid int) (procStat, error) {
	start, err := startToken(pid)
	if err != nil {
		return procStat{}, err
	}
	parent, _ := (&process.Process{Pid: int32(pid)}).PpidWithContext(ctx)
	return procStat{parent: int(parent), start: start}, nil
}

func processName(ctx context.Context, pid int, _ procStat) string {
	name, _ := (&process.Process{Pid: int32(pid)}).NameWithContext(ctx)
	return name
}

// processUser returns the effective user, as ps(1) does. An unknown number is
// -1.
func processUser(ctx context.Context, pid int) (name string, uid int) {
	p := &process.Process{Pid: int32(pid)}
	uids, err := p.UidsWithContext(ctx)
	if err != nil || len(uids) == 0 {
		name, _ = p.UsernameWithContext(ctx) // Windows has names only
		return name, -1
	}
	// FreeBSD lists real, effective and saved; macOS the effective.
	id := uids[min(1, len(uids)-1)]
	// Numbers are unsigned 32-bit, though gopsutil keeps them signed.
	uid = int(uint32(id))
	return accountName(uid), uid
}

// controlGroup has no meaning outside Linux.
func controlGroup(int) (unit, container string) { return "", "" }
