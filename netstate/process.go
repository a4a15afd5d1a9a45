package netstate

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os/user"
	"strconv"
	"syscall"

	"github.com/shirou/gopsutil/v3/process"
)

// maxParents is how far a holder's ancestry is told. It is for reading, and
// nobody reads on after a shell, a terminal and a session manager.
const maxParents = 32

// IdentifyProcess returns the identity of the process that has this number
// now. The error matches fs.ErrNotExist if there is none.
func IdentifyProcess(pid int) (ProcessID, error) {
	start, err := startToken(pid)
	if err != nil {
		return ProcessID{}, processError(pid, err)
	}
	return ProcessID{PID: pid, Start: start}, nil
}

// Ancestors returns the chain of processes that started this one, its parent
// first and pid 1 last, as far as it can be seen: the root of a pid namespace
// or a hidden process ends it. On Windows a process can outlive its parent,
// and a later process may have the number; the chain then holds one process
// too many.
func Ancestors(ctx context.Context, pid int) []ProcessID {
	stat, err := readStat(ctx, pid)
	if err != nil {
		return nil
	}
	var ids []ProcessID
	for pid, stat := range ancestors(ctx, pid, stat) {
		ids = append(ids, ProcessID{PID: pid, Start: stat.start})
	}
	return ids
}

// ancestors yields the chain above a process whose status has been read.
func ancestors(ctx context.Context, pid int, stat procStat) iter.Seq2[int, procStat] {
	return func(yield func(int, procStat) bool) {
		seen := map[int]bool{pid: true} // a chain read while it changes may loop
		for pid > 1 && stat.parent > 0 && !seen[stat.parent] && ctx.Err() == nil {
			pid = stat.parent
			seen[pid] = true
			var err error
			if stat, err = readStat(ctx, pid); err != nil || !yield(pid, stat) {
				return
			}
		}
	}
}

// procStat is what one look at a process tells, so that a process need not be
// looked at once for each of these facts.
type procStat struct {
	parent int    // 0 if there is none that can be seen
	start  uint64 // as startToken returns it
	name   string // what processName starts from
}

// processFacts reads what a person wants to know about a process before
// stopping it. A fact that may not be read stays empty; an error means that
// the process itself cannot be seen, matching fs.ErrNotExist if it has ended.
// FD is left at -1, since a process has a descriptor only for a socket.
func processFacts(ctx context.Context, pid int) (Holder, error) {
	stat, err := readStat(ctx, pid)
	if err != nil {
		return Holder{}, processError(pid, err)
	}
	id := ProcessID{PID: pid, Start: stat.start}
	// The value is not made by process.NewProcess, which would read the start
	// time once more.
	p := &process.Process{Pid: int32(pid)}
	h := Holder{ID: id, Started: startTime(id), FD: -1}
	// The errors below say "not permitted" or "not told on this system", and
	// both mean that the fact is unknown.
	h.Cmdline, _ = p.CmdlineSliceWithContext(ctx)
	h.Name = processName(ctx, pid, stat)
	h.Cwd, _ = p.CwdWithContext(ctx)
	h.User, h.UID = processUser(ctx, pid)
	h.Unit, h.Container = controlGroup(pid)
	for pid, stat := range ancestors(ctx, pid, stat) {
		h.Parents = append(h.Parents, Parent{PID: pid, Name: processName(ctx, pid, stat)})
		if len(h.Parents) == maxParents {
			break
		}
	}
	h.Supervisor = supervisorOf(ctx, &h)
	if err := ctx.Err(); err != nil {
		return Holder{}, err
	}
	// If the number went to another process meanwhile, the facts are a
	// mixture of two.
	if now, err := IdentifyProcess(pid); err != nil {
		return Holder{}, err
	} else if now != id {
		return Holder{}, processError(pid, fs.ErrNotExist)
	}
	return h, nil
}

// accountName returns the name of a user; empty if there is none for the
// number, which is common in containers.
func accountName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}

// ownersByPID reads the facts of each process that a table names. Processes
// that have ended meanwhile are left out.
func ownersByPID(ctx context.Context, sockets []Socket) (*Owners, error) {
	owners := NewOwners()
	seen := map[int]bool{}
	for i := range sockets {
		s := &sockets[i]
		if s.PID == 0 && s.State == Listen {
			// A listener always has a process, so this one's is hidden.
			owners.Hidden++
		}
		if s.PID == 0 || seen[s.PID] {
			continue
		}
		seen[s.PID] = true
		h, err := processFacts(ctx, s.PID)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			continue
		}
		owners.AddPID(h)
	}
	return owners, nil
}

// processError makes the several ways of saying "no such process" one. A read
// from /proc that began before the end of the process fails with ESRCH.
func processError(pid int, err error) error {
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, process.ErrorProcessNotRunning) {
		err = fs.ErrNotExist
	}
	return &OpError{Op: "read process " + strconv.Itoa(pid), Err: err}
}
