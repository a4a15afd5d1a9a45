package reclaim

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	err := newWaiter(k, spec, timeout, on).wait(ctx, interval)
	if err != nil && ctx.Err() != nil {
		on(Event{At: time.Now(), Kind: EventCancelled, Err: ctx.Err()})
		return ctx.Err()
	}
	return err
}

func newWaiter(k Kernel, spec netstate.BindSpec, timeout time.Duration, on func(Event)) *waiter {
	now := time.Now()
	return &waiter{k: k, spec: spec, on: on, start: now, deadline: now.Add(timeout), explained: make(chan explanation, 1)}
}

// wait is WaitBindable without the report of a cancel.
func (w *waiter) wait(ctx context.Context, interval time.Duration) error {
	defer w.explaining.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var news *explanation
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-w.wake:
		case x := <-w.explained:
			news = &x
		}
		if ctx.Err() != nil {
			return ctx.Err() // both were ready, and nothing may follow a cancel
		}
		if news == nil {
			if w.probe(ctx); w.probed.Probe.Bindable() {
				w.on(w.probed)
				w.on(Event{At: w.probed.At, Kind: EventBindable, Probe: w.probed.Probe, Took: time.Since(w.start), Deadline: w.deadline})
				return nil
			}
			if w.last || w.why == nil || time.Since(w.why.At) >= explainEvery {
				w.explain(ctx)
				if w.last {
					timer.Stop()
				} else {
					timer.Reset(nextProbe(time.Now(), w.deadline, interval, netstate.Clears{}))
				}
				continue // the probe is reported together with the reason
			}
		} else {
			w.asking = false
			if news.err != nil {
				return news.err
			}
			w.why = &news.verdict
		}
		w.probed.Verdict = w.why
		w.on(w.probed)
		if w.stop != nil {
			if err := w.stop(w.why); err != nil {
				return err
			}
		}
		switch {
		case w.why.Bindable:
			// It became free between the probe and the explanation, which
			// made a bind of its own. Prove it by a probe that is reported.
			timer.Reset(0)
		case w.last:
			return w.fail()
		default:
			timer.Reset(nextProbe(time.Now(), w.deadline, interval, w.why.Clears))
		}
	}
}

// waiter is the state of one wait.
type waiter struct {
	k               Kernel
	spec            netstate.BindSpec
	on              func(Event)
	start, deadline time.Time
	// first is a probe that was made already; stop sees each explanation of a
	// refusal and may end the wait. Both may be nil.
	first *netstate.Probe
	stop  func(*netstate.Verdict) error

	wake  <-chan struct{}
	heard bool // wake was asked for

	probed Event // the newest probe
	last   bool  // no later one can help: the time is over, or waiting cures nothing

	// To explain costs milliseconds, in which the port may be freed, so it
	// goes on beside the waiting, one at a time.
	why        *netstate.Verdict // the newest
	asking     bool
	explained  chan explanation
	explaining sync.WaitGroup
}

// explanation is what became of asking why a probe was refused.
type explanation struct {
	verdict netstate.Verdict
	err     error
}

// probe makes one bind. A port that is free is so after a single one: only
// when it is refused the kernel's events are asked for, and a second bind then
// finds what happened before they were.
func (w *waiter) probe(ctx context.Context) {
	over := !time.Now().Before(w.deadline)
	var probe netstate.Probe
	if w.first != nil {
		probe, w.first = *w.first, nil
	} else {
		probe = w.k.TryBind(w.spec)
	}
	if !w.heard && probe.Class() == netstate.ClassInUse {
		w.wake, w.heard = w.k.Wake(ctx, w.spec), true
		probe = w.k.TryBind(w.spec)
	}
	w.probed = Event{At: probe.At.Add(probe.Took), Kind: EventProbe, Probe: probe, Deadline: w.deadline}
	w.last = over || probe.Class() != netstate.ClassInUse
}

func (w *waiter) explain(ctx context.Context) {
	if w.asking {
		return
	}
	w.asking = true
	w.explaining.Go(func() {
		v, err := w.k.Why(ctx, w.spec)
		w.explained <- explanation{v, err}
	})
}

// fail ends a wait whose last probe was refused.
func (w *waiter) fail() error {
	err := &WaitError{Verdict: *w.why, Waited: time.Since(w.start), Err: w.probed.Probe.Err}
	if w.probed.Probe.Class() == netstate.ClassInUse {
		err.Err = ErrTimeout
		w.on(Event{At: time.Now(), Kind: EventTimeout, Verdict: w.why, Took: err.Waited, Err: ErrTimeout})
		return err
	}
	w.on(Event{At: time.Now(), Kind: EventError, Verdict: w.why, Err: err})
	return err
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
