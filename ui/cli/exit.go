package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"berth/gatewaylaunch"
	"berth/netstate"
	"berth/netstate/netns"
	"berth/reclaim"
)

// The exit statuses of every verb but run, which ends with its command's own.
const (
	exitOK          = 0
	exitError       = 1   // anything that has no number of its own
	exitUsage       = 2   // the command line was wrong
	exitHeld        = 3   // refused, a process holds the port
	exitLingering   = 4   // refused, only the kernel holds it: it clears by itself
	exitDenied      = 5   // EACCES, EPERM
	exitTimeout     = 6   // it did not happen in time
	exitGuard       = 7   // a guard said no, or nobody was there to confirm
	exitNoAddress   = 8   // EADDRNOTAVAIL, EINVAL
	exitInterrupted = 130 // 128 + SIGINT
)

// failure ends a verb with a status of its own choosing. Without err it is
// silent: the report that was written is the answer.
type failure struct {
	status int
	err    error
	hint   string
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit status %d", f.status)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// usage is a mistake on the command line.
func usage(hint, format string, args ...any) error {
	return &failure{status: exitUsage, err: fmt.Errorf(format, args...), hint: hint}
}

// finish prints what err has to say and returns the exit status.
func finish(stderr io.Writer, clean func(string) string, err error) int {
	if err == nil {
		return exitOK
	}
	status := statusOf(err)
	if f := (*failure)(nil); !errors.As(err, &f) || f.err != nil {
		what := err.Error()
		if f == nil && errors.Is(err, context.Canceled) {
			what = "interrupted"
		}
		fmt.Fprintf(stderr, "berth: %s\n", strings.TrimSuffix(clean(what), "."))
	}
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(stderr, "berth: hint: %s\n", strings.TrimSuffix(clean(hint), "."))
	}
	return status
}

// statusOf is the exit status that an error stands for.
func statusOf(err error) int {
	var (
		f     *failure
		wait  *reclaim.WaitError
		inUse *gatewaylaunch.InUseError
		bind  *gatewaylaunch.BindError
		lock  *gatewaylaunch.LockError
		host  *netstate.HostError
		again *gatewaylaunch.RestartError
	)
	switch {
	case errors.As(err, &f):
		return f.status
	case errors.As(err, &again):
		return max(again.Exit.Code, exitError)
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, reclaim.ErrTimeout):
		return exitTimeout
	case errors.Is(err, reclaim.ErrStale):
		return exitGuard
	case errors.Is(err, reclaim.ErrSurvived), errors.Is(err, reclaim.ErrRespawned), errors.Is(err, reclaim.ErrShared):
		return exitHeld
	case errors.As(err, &inUse):
		if inUse.Verdict.At.IsZero() {
			// Only the command's own word says so, and its status is all there is.
			return inUse.Exit.Code
		}
		return statusOfVerdict(&inUse.Verdict)
	case errors.As(err, &bind):
		return statusOfVerdict(&bind.Verdict)
	case errors.As(err, &lock):
		return lock.Exit.Code
	case errors.As(err, &wait):
		return statusOfVerdict(&wait.Verdict)
	case errors.As(err, &host):
		return exitNoAddress
	case errors.Is(err, fs.ErrPermission):
		return exitDenied
	}
	return exitError
}

// statusOfVerdict is the exit status that a verdict stands for.
func statusOfVerdict(v *netstate.Verdict) int {
	switch v.Reason {
	case netstate.ReasonFree:
		return exitOK
	case netstate.ReasonHeld, netstate.ReasonBound, netstate.ReasonInUse:
		return exitHeld
	case netstate.ReasonLingering:
		return exitLingering
	case netstate.ReasonDenied:
		return exitDenied
	case netstate.ReasonNoAddress:
		return exitNoAddress
	}
	return exitError
}

// hintOf is what to do about an error, if anybody knows.
func hintOf(err error) string {
	var (
		f    *failure
		told interface{ Hint() string }
		host *netstate.HostError
		op   *netstate.OpError
		ns   *netns.Error
	)
	switch {
	case errors.As(err, &f) && f.hint != "":
		return f.hint
	case errors.As(err, &told):
		return told.Hint()
	case errors.As(err, &host):
		return host.Hint
	case errors.As(err, &op):
		return op.Hint
	case errors.As(err, &ns):
		return ns.Hint
	}
	return ""
}
