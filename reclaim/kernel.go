package reclaim

import (
	"context"
	"errors"

	"berth/netstate"
)

// Kernel is what a run needs from the machine. System is the real one; the
// tests have a scripted one.
type Kernel interface {
	// Why probes and explains, TryBind only probes.
	Why(ctx context.Context, spec netstate.BindSpec) (netstate.Verdict, error)
	TryBind(spec netstate.BindSpec) netstate.Probe
	// Open takes hold of a process so that a signal can only ever reach this
	// one. It returns ErrStale if id names another process by now, and
	// ErrGone if none.
	Open(id netstate.ProcessID) (Process, error)
	// Destroy ends sockets of the spec's scope in the kernel by cookie and
	// returns how many it ended. A socket that has gone by itself counts as ended.
	Destroy(ctx context.Context, spec netstate.BindSpec, sockets []netstate.Socket) (int, error)
	// Wake fires, possibly for nothing, when a socket of the spec's port may
	// have ended, until ctx ends. It may return nil where the system has no such
	// event; the interval of the policy then is all there is.
	Wake(ctx context.Context, spec netstate.BindSpec) <-chan struct{}
}

// Process is one process that cannot be mistaken for another: a pidfd on
// Linux. A signal to a process that has ended returns ErrGone.
type Process interface {
	Terminate() error // SIGTERM
	Kill() error      // SIGKILL
	// Done is closed when the process has ended.
	Done() <-chan struct{}
	Close() error
}

// The ways in which a run ends without success.
var (
	ErrStale    = errors.New("the process is another program now")
	ErrGone     = errors.New("the process is gone")
	ErrTimeout  = errors.New("timed out")
	ErrSurvived = errors.New("the holder did not end")
)

// endError is one of the errors above, said of a certain process.
type endError struct {
	text string
	kind error
}

func (e *endError) Error() string { return e.text }
func (e *endError) Unwrap() error { return e.kind }

// InfeasibleError says why a plan cannot free the port. Nothing was done.
type InfeasibleError struct{ Plan Plan }

func (e *InfeasibleError) Error() string {
	for _, s := range e.Plan.Steps {
		if s.Needs != "" {
			return "nothing was done: " + s.Text + " needs " + s.Needs
		}
	}
	if len(e.Plan.Refused) == 0 {
		return "nothing was done: the plan cannot free the port"
	}
	return "nothing was done: " + e.Plan.Refused[0].Text()
}

// Text says the refusal as a sentence.
func (r Refusal) Text() string {
	if r.Holder.ID.PID == 0 {
		return r.Why
	}
	return name(r.Holder) + " " + r.Why
}
