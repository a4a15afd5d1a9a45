package reclaim

import (
	"context"
	"errors"
	"time"

	"berth/netstate"
)

// Kernel is what a run needs from the machine. System is the real one; a
// scripted one lives in the tests.
type Kernel interface {
	// Why probes and explains, TryBind only probes.
	Why(ctx context.Context, spec netstate.BindSpec) (netstate.Verdict, error)
	TryBind(spec netstate.BindSpec) netstate.Probe
	// Open takes hold of a process so that a signal can only ever reach this
	// one. It returns ErrStale if id names another process by now, and
	// ErrGone if none.
	Open(id netstate.ProcessID) (Process, error)
	// Destroy ends the sockets in the kernel by cookie and returns how many
	// it ended.
	Destroy(ctx context.Context, sockets []netstate.Socket) (int, error)
	// Wake fires, possibly for nothing, when a socket of the port may have
	// ended, until ctx ends. It may return nil where the system has no such
	// event; the interval of the policy then is all there is.
	Wake(ctx context.Context, port uint16) <-chan struct{}
}

// Process is one process that cannot be mistaken for another: a pidfd on
// Linux.
type Process interface {
	Terminate() error // SIGTERM
	Kill() error      // SIGKILL
	// Done is closed when the process has ended.
	Done() <-chan struct{}
	Close() error
}

// The ways in which a run can end without success. Each unwraps from the
// error that Run returns.
var (
	ErrStale      = errors.New("the process is another program now")
	ErrGone       = errors.New("the process is gone")
	ErrTimeout    = errors.New("timed out")
	ErrSurvived   = errors.New("the holder outlived the grace period")
	ErrInfeasible = errors.New("the plan cannot free the port")
)

// WaitError says that the port could not be bound in time, or never will.
type WaitError struct {
	Verdict netstate.Verdict
	Waited  time.Duration
	Err     error // ErrTimeout, or the bind's error
}

func (e *WaitError) Error() string { return e.Verdict.Summary }
func (e *WaitError) Unwrap() error { return e.Err }
