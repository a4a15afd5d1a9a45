package reclaim

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"berth/netstate"
)

// Kernel is what a run needs from the machine. System is the real one; the
// tests have a scripted one.
type Kernel interface {
	// Why probes and explains, TryBind only probes.
	Why(ctx context.Context, spec netstate.BindSpec) (netstate.Verdict, error)
	TryBind(spec netstate.BindSpec) netstate.Probe
	// Ready prepares one bind, so that what is left of it takes the least time.
	// Both functions are called at most once, close in any case.
	Ready(spec netstate.BindSpec) (bind func() netstate.Probe, close func())
	// Open takes hold of a process so that a signal can only ever reach this
	// one. It returns ErrGone if there is no such process any more, and
	// ErrStale if its number belongs to another one by now.
	Open(h netstate.Holder) (Process, error)
	// Owners finds every process that has one of the sockets open.
	Owners(ctx context.Context, sockets []netstate.Socket) (*netstate.Owners, error)
	// Destroy ends sockets of the spec's scope in the kernel by cookie and
	// returns how many it ended. A socket that has gone by itself counts as ended.
	Destroy(ctx context.Context, spec netstate.BindSpec, sockets []netstate.Socket) (int, error)
	// Urgent calls do so that other processes delay it as little as this one's
	// rights allow.
	Urgent(do func())
	// Wake fires, possibly for nothing, when a socket of the spec's port may
	// have ended, until ctx ends. It may return nil where the system has no such
	// event; the interval of the policy then is all there is.
	Wake(ctx context.Context, spec netstate.BindSpec) <-chan struct{}
}

// Process is one process that cannot be mistaken for another: a pidfd on
// Linux. A signal to a process that has ended returns ErrGone.
type Process interface {
	// Check returns ErrGone if the process has ended, and an error that unwraps
	// to ErrStale if it has become another program by exec: what was confirmed
	// is the name that it had when it was opened for.
	Check() error
	// Signal sends one of the polite signals or SIGKILL. Where a system has
	// none of the former, it ends the process at once.
	Signal(sig syscall.Signal) error
	// Take duplicates the descriptor by which the process, known as h, holds a
	// listening socket. It fails if the descriptor is another socket's by now,
	// without the right to ptrace the process, for a process that is ending
	// already, and where a system has no such call.
	Take(h netstate.Holder, s netstate.Socket) (Listener, error)
	// Done is closed when the process has ended.
	Done() <-chan struct{}
	Close() error
}

// Listener is a listening socket that was taken from a process. As long as it
// is not closed, the socket outlives the process.
type Listener interface {
	// Shutdown ends the listening and sets SO_REUSEADDR, after which a bind
	// with that option succeeds though the socket still exists. Connections
	// that nobody has accepted are reset.
	Shutdown() error
	// Listen undoes Shutdown, unless something else listens there by now.
	Listen() error
	Close() error
}

// The ways in which a run ends without success.
var (
	ErrStale    = errors.New("the process is another program now")
	ErrGone     = errors.New("the process is gone")
	ErrTimeout  = errors.New("timed out")
	ErrSurvived = errors.New("the holder did not end")
	// ErrRespawned: the holder is back under another pid, so something starts
	// it again, and stopping it once more would not help.
	ErrRespawned = errors.New("the holder was started again")
	// ErrShared: a process that is not in the plan came to share a listener.
	ErrShared = errors.New("another process shares the listener")
)

// endError is one of the errors above, said of a certain process.
type endError struct {
	text string
	kind error
}

func (e *endError) Error() string { return e.text }
func (e *endError) Unwrap() error { return e.kind }

// CancelledError says what had been done when a run was cancelled. It unwraps
// to the context's error.
type CancelledError struct {
	// Done are clauses such as "SIGTERM was sent to node 4211".
	Done []string
	Err  error
}

func (e *CancelledError) Error() string { return "cancelled; " + e.What() }

// What says what was done.
func (e *CancelledError) What() string {
	if len(e.Done) == 0 {
		return "nothing had been done"
	}
	return "what was done stays done: " + strings.Join(e.Done, ", ")
}

// Unwrap returns Err.
func (e *CancelledError) Unwrap() error { return e.Err }

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
