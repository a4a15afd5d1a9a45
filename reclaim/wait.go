package reclaim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"berth/netstate"
)

// WaitError says that the port could not be bound in time, or never will be.
type WaitError struct {
	Verdict netstate.Verdict
	Waited  time.Duration
	// Err is ErrTimeout, or the error of a bind that no waiting can cure.
	Err error
}

func (e *WaitError) Error() string {
	if errors.Is(e.Err, ErrTimeout) {
		return fmt.Sprintf("still refused after %v: %s", e.Waited.Round(time.Millisecond), e.Verdict.Summary)
	}
	return e.Verdict.Summary
}

// Unwrap returns Err.
func (e *WaitError) Unwrap() error { return e.Err }

const (
	// explainEvery bounds how often a refused probe is explained in full,
	// which costs a walk over all processes.
	explainEvery = time.Second
	// wheelStep is how often to probe between the end of a TIME-WAIT timer
	// and the moment the kernel's timer wheel frees the socket.
	wheelStep = 5 * time.Millisecond
)

// WaitBindable probes spec with real binds until one succeeds and returns nil
// then. It wakes when the kernel reports the end of a socket on the port, when
// a TIME-WAIT timer is due, and at the latest every interval. An error other
// than EADDRINUSE ends it at once, since waiting cannot cure it; so does
// timeout, after one last probe. Both return a *WaitError.
func WaitBindable(ctx context.Context, k Kernel, spec netstate.BindSpec, timeout, interval time.Duration, on func(Event)) error {
	err := waitBindable(ctx, k, spec, timeout, interval, on)
	if err != nil && ctx.Err() != nil {
		on(Event{At: time.Now(), Kind: EventCancelled, Err: ctx.Err()})
		return ctx.Err()
	}
	return err
}

func waitBindable(ctx context.Context, k Kernel, spec netstate.BindSpec, timeout, interval time.Duration, on func(Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := k.Wake(ctx, spec)
	start := time.Now()
	deadline := start.Add(timeout)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var why *netstate.Verdict
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-wake:
		}
		if ctx.Err() != nil {
			return ctx.Err() // both were ready, and nothing may follow a cancel
		}
		probe := k.TryBind(spec)
		e := Event{At: time.Now(), Kind: EventProbe, Probe: probe, Deadline: deadline}
		if probe.Bindable() {
			on(e)
			on(Event{At: time.Now(), Kind: EventBindable, Probe: probe, Took: time.Since(start), Deadline: deadline})
			return nil
		}
		over := !time.Now().Before(deadline)
		final := probe.Class() != netstate.ClassInUse
		if why == nil || over || final || time.Since(why.At) >= explainEvery {
			v, err := k.Why(ctx, spec)
			if err != nil {
				return err
			}
			why = &v
		}
		e.Verdict = why
		on(e)
		switch {
		case why.Bindable:
			// It became free between the probe and the explanation, which
			// made a bind of its own. Prove it by a probe that is reported.
			timer.Reset(0)
		case final:
			err := &WaitError{Verdict: *why, Waited: time.Since(start), Err: probe.Err}
			on(Event{At: time.Now(), Kind: EventError, Verdict: why, Err: err})
			return err
		case over:
			on(Event{At: time.Now(), Kind: EventTimeout, Verdict: why, Took: time.Since(start), Err: ErrTimeout})
			return &WaitError{Verdict: *why, Waited: time.Since(start), Err: ErrTimeout}
		default:
			timer.Reset(nextProbe(time.Now(), deadline, interval, why.Clears))
		}
	}
}

// nextProbe says how long to sleep if no event comes: to the end of the
// blockers' timers if that is near, in small steps once they are due, and
// never beyond the interval or the deadline.
func nextProbe(now, deadline time.Time, interval time.Duration, clears netstate.Clears) time.Duration {
	d := min(interval, deadline.Sub(now))
	if clears.Known() && now.Before(clears.Until) {
		d = min(d, max(clears.From.Sub(now), wheelStep))
	}
	return max(d, 0)
}
