package gatewaylaunch

import (
	"context"
	"os"
	"os/signal"
	"time"

	"berth/netstate"
)

// Launcher starts a gateway and stays with it until it ends. A Launcher can
// run several times, one after the other.
type Launcher struct {
	Command Command
	// Spec is the bind that the gateway is expected to make.
	Spec   netstate.BindSpec
	Retry  Retry // Notify is not used; the events tell more
	Kernel Kernel
	// ReadyTimeout is how long nothing may listen before EventNotReady says
	// so; 0 means 60 s.
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
// *LockError, or ctx's error after ctx has ended the gateway: SIGTERM, Grace,
// SIGKILL, then nothing of it is left. A process that not even SIGKILL ends,
// because it is stuck in the kernel, keeps Run waiting.
func (l *Launcher) Run(ctx context.Context, on func(Event)) (ExitStatus, error) {
	r := &run{Launcher: l, on: on, began: time.Now()}
	if l.Foreground {
		r.signals = make(chan os.Signal, 8)
		notifySignals(r.signals)
		defer signal.Stop(r.signals)
	}
	for {
		r.attempt++
		a, err := r.try(ctx)
		switch {
		case err != nil:
			return ExitStatus{}, r.fail(err)
		case a.stopped:
			r.emit(Event{Kind: EventStopped, PID: a.pid, Exit: a.exit, Took: time.Since(a.askedAt)})
			return a.exit, ctx.Err()
		}
		exited := Event{Kind: EventExited, PID: a.pid, Exit: a.exit, Took: a.took}
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
	on      func(Event)
	began   time.Time
	attempt int
	signals chan os.Signal // nil in the background
}

func (r *run) emit(e Event) {
	e.At, e.Attempt, e.Of = time.Now(), r.attempt, r.Retry.attempts()
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
		v, err := r.Kernel.Why(ctx, r.Spec)
		if err != nil {
			return err
		}
		return &BindError{Verdict: v, Exit: a.exit}
	case causeInUse:
		r.emit(Event{Kind: EventInUse, PID: a.pid, Exit: a.exit, Verdict: a.refusal})
	default:
		return nil
	}
	left := r.Retry.attempts() - r.attempt
	tooLate := left > 0 && clearsAfter(a.refusal, time.Now().Add(time.Duration(left)*r.Retry.Interval))
	if left > 0 && !tooLate {
		return nil
	}
	err := &InUseError{Attempts: r.attempt, Elapsed: time.Since(r.began), Exit: a.exit, Said: a.inUse, TooLate: tooLate}
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

// probeEvery is how often a pause probes where the system reports no end of a
// socket.
const probeEvery = 25 * time.Millisecond

// pause waits until the refused bind would succeed, at most for the interval:
// the next attempt comes in any case, since a probe's options may differ from
// the gateway's. It returns false, and the status to end with, if the launch
// is to stop.
func (r *run) pause(ctx context.Context, a *attempt) (again bool, status ExitStatus) {
	r.emit(Event{Kind: EventRetry, Wait: r.Retry.Interval})
	pausing, cancel := context.WithCancel(ctx)
	defer cancel()
	var wake <-chan struct{}
	var tick <-chan time.Time
	if v := a.refusal; v != nil {
		if wake = r.Kernel.Wake(pausing, v.Spec); wake == nil && v.Spec.ReuseAddr {
			// A probe without SO_REUSEADDR could collide with another
			// server's start, so such a one is not made in a loop.
			t := time.NewTicker(probeEvery)
			defer t.Stop()
			tick = t.C
		}
		// What ended before the events were subscribed to is seen here.
		if r.Kernel.TryBind(v.Spec).Bindable() {
			return ctx.Err() == nil, a.exit
		}
	}
	end := time.NewTimer(r.Retry.Interval)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, a.exit
		case sig := <-r.signals:
			if ends(sig) {
				return false, statusOfSignal(sig)
			}
			continue
		case <-end.C:
			return true, a.exit
		case <-wake:
		case <-tick:
		}
		if r.Kernel.TryBind(a.refusal.Spec).Bindable() {
			return true, a.exit
		}
	}
}
