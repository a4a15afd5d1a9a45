//go:build darwin || freebsd

package netstate

import (
	"context"
	"os"

	"github.com/shirou/gopsutil/v3/process"
)

// supervisorOf says who supervises a process whose other facts are in h.
func supervisorOf(ctx context.Context, h *Holder) *Supervisor { return recognise(h, sysctls{ctx}) }

// sysctls reads what these systems tell of a process.
type sysctls struct{ ctx context.Context }

func (s sysctls) cmdline(pid int) []string {
	words, _ := (&process.Process{Pid: int32(pid)}).CmdlineSliceWithContext(s.ctx)
	return words
}

func (s sysctls) cwd(pid int) string {
	dir, _ := (&process.Process{Pid: int32(pid)}).CwdWithContext(s.ctx)
	return dir
}

func (sysctls) environ(pid int) map[string]string { return environment(rawEnviron(pid)) }

// Control groups and pods are Linux's.
func (sysctls) cgroup(int) string                   { return "" }
func (sysctls) pod(string) (namespace, name string) { return "", "" }
func (sysctls) asker() asker                        { return asker{uid: os.Geteuid()} }

// readUnits finds none: systemd runs on Linux only.
func readUnits(*Supervisor, *Holder) (u units, user *account, ok bool) { return }
