package gatewaylaunch

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/signal"
	"time"

	"berth/netstate"
)

// ErrLeft is returned by a launch that was told to leave its gateway alone.
var ErrLeft = errors.New("the gateway goes on by itself")

// Launcher starts a gateway and stays with it until it ends. A Launcher can
// run several times, one after the other.
type Launcher struct {
	Command Command
	// Spec is the bind that the gateway is expected to make. GuessedPort is set
	// if nobody told its port: the first attempt is then not kept back because
	// of it.
	Spec        netstate.BindSpec
	GuessedPort bool
	// GuessedHost is set if nobody told its host: then the gateway is ready
	// wherever it listens on the port. Otherwise it is when it listens on the
	// address of Spec and on those of Also.
	GuessedHost bool
	Also        []netip.Addr
	// Health, if set, is asked once the gateway listens; it is ready when the
	// answer is good.
	Health *Health
	Retry  Retry // Notify is not used; the events tell more
	Kernel Kernel
	// ReadyTimeout is how long the gateway may take to be ready before
	// EventNotReady says so; 0 means 60 s.
	ReadyTimeout time.Duration
	// Grace is the time from SIGTERM to SIGKILL when the context ends; 0 means
	// 3 s.
	Grace time.Duration
	// Foreground lets the gateway have this process's terminal: it inherits
	// the standard files and the session, and the signals that reach this
	// process are forwarded to it. Its output goes where it would go without
	// berth and is not reported. Otherwise the gateway gets a session of its
	// own, nothing to read, and its output is reported line by line.
	//
	// The context must not be cancelled by the signals that are forwarded.
	Foreground bool
	// Tie ends the gateway's standard input when this process ends, however
	// that happens; a Demo with UntilEOF then ends too. It has no meaning in
	// the foreground.
	Tie bool
	// Log is the file that a gateway in the background writes its output to
	// by itself, so that it can go on writing after this process has ended. It
	// must be open for appending, and is read again by its name. Without it
	// the output goes through pipes, which end with this process.
	Log *os.File
	// Starter starts the process, if it is to be started in another way than
	// usual.
	Starter Starter
	// Leave, when it is closed, lets a gateway in the background go on without
	// this process: Run returns ErrLeft.
	Leave <-chan struct{}

	stdio *stdio // stands in for this process's own files in tests
}

func (l *Launcher) readyTimeout() time.Duration {
	if l.ReadyTimeout == 0 {
		return time.Minute
	}
	return l.ReadyTimeout
}

func (l *Launcher) grace() time.Duration {
	if l.Grace == 0 {
		return 3 * time.Second
	}
	return l.Grace
}

// Run starts the gateway, again as Retry allows if its address was taken, and
// returns when it has ended. Each thing that happens is reported to on, in
// order and from the calling goroutine; while on works, the gateway's output
// waits in its pipe.
//
// The status is that of the last attempt. The error is nil if the gateway
// ended for its own reasons, whatever its status, and when a forwarded signal
// ended it. Otherwise it is a *StartError, *InUseError, *BindError or
// *LockError, ErrLeft, or ctx's error after ctx has ended the gateway: SIGTERM, Grace,
// SIGKILL, then nothing of it is left. A process that not even SIGKILL ends,
// because it is stuck in the kernel, keeps Run waiting.
func (l *Launcher) Run(ctx context.Context, on func(Event)) (ExitStatus, error) {
	r := &run{Launcher: l, on: on, pace: pace{Retry: l.Retry, began: time.Now()}}
	if l.Foreground {
		r.signals = make(chan os.Signal, 8)
		notifySignals(r.signals)
		defer signal.Stop(r.signals)
	}
	if again, status := r.hold(ctx); !again {
		r.emit(Event{Kind: EventStopped, Exit: status})
		return status, ctx.Err()
	}
	for {
		r.attempt++
		a, err := r.try(ctx)
		switch {
		case err != nil:
			return ExitStatus{}, r.fail(err)
		case a.left:
			return ExitStatus{}, ErrLeft
		case a.stopped:
			r.emit(Event{Kind: EventStopped, PID: a.pid, Exit: a.exit, Took: time.Since(a.askedAt)})
			return a.exit, ctx.Err()
		}
		exited := Event{Kind: EventExited, PID: a.pid, Exit: a.exit, Took: a.took, Line: a.unconfirmed()}
		if a.cause() == causeOwn && a.refused(netstate.ClassInUse) {
			exited.Verdict = a.refusal
		}
		r.emit(exited)
		if err := r.judge(ctx, a); err != nil {
			return a.exit, r.fail(err)
		}
		if a.cause() != causeInUse {
			return a.exit, nil
		}
		if again, status := r.pause(ctx, a); !again {
			r.emit(Event{Kind: EventStopped, Exit: status})
			return status, ctx.Err()
		}
	}
}

// run is one call of Run.
type run struct {
	*Launcher
	pace
	on      func(Event)
	attempt int
	state   State
	signals chan os.Signal // nil in the background
}

func (r *run) emit(e Event) {
	r.state = r.state.after(e.Kind, r.Health != nil)
	e.At, e.State, e.Attempt, e.Of = time.Now(), r.state, r.attempt, r.attempts()
	if r.on != nil {
		r.on(e)
	}
}

func (r *run) fail(err error) error {
	r.emit(Event{Kind: EventFailed, Err: err})
	return err
}

// judge reports a refused attempt and returns the error if no other one may
// follow.
func (r *run) judge(ctx context.Context, a *attempt) error {
	switch a.cause() {
	case causeLock:
		return &LockError{Line: a.locks, Exit: a.exit}
	case causeDenied:
		e := &BindError{Exit: a.exit}
		spec := r.Spec
		if a.watched != nil {
			spec, e.Watched = a.watched.Spec, a.watched.Err
		}
		var err error
		if e.Verdict, err = r.Kernel.Why(ctx, spec); err != nil {
			return err
		}
		return e
	case causeInUse:
		r.emit(Event{Kind: EventInUse, PID: a.pid, Exit: a.exit, Verdict: a.refusal})
	default:
		return nil
	}
	r.refused(a.before == netstate.ClassInUse)
	now := time.Now()
	again := r.again(r.attempt, now)
	tooLate := again && clearsAfter(a.refusal, now.Add(r.left(now)))
	loop := again && r.looping()
	if again && !tooLate && !loop {
		return nil
	}
	err := &InUseError{Attempts: r.attempt, Elapsed: time.Since(r.began), Exit: a.exit, Said: a.inUse, TooLate: tooLate, Loop: loop && !tooLate}
	if a.refusal != nil {
		err.Verdict = *a.refusal
	}
	return err
}

// clearsAfter reports whether a port that only the kernel holds is known to
// stay refused until after the deadline. A process may end at any time.
func clearsAfter(v *netstate.Verdict, deadline time.Time) bool {
	return v != nil && v.Reason == netstate.ReasonLingering && v.Clears.Known() && v.Clears.From.After(deadline)
}
