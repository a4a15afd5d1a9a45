package reclaim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"berth/netstate"
)

// taken is a listener with the socket that it was in the plan.
type taken struct {
	Listener
	socket netstate.Socket
}

// rung sends one signal to each target of the steps [from, to) that is still
// alive, and waits until all are gone or the longest bound is over. With
// SIGKILL it shuts the listeners down, if the plan says so, and then need not
// wait.
func (r *run) rung(ctx context.Context, kind StepKind, from, to int) error {
	var listeners []taken
	if kind == StepKill && to < len(r.plan.Steps) && r.plan.Steps[to].Kind == StepShutdown && len(r.opened) > 0 {
		listeners = r.take(to)
		if ctx.Err() != nil {
			closeAll(listeners)
			return ctx.Err()
		}
	}
	var (
		sent, ended []int
		failed      *Event
		shut        *Event
	)
	var port portWatch
	if kind == StepTerm && r.step < r.waitStep() {
		// Before the signals, so that no event can be missed.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		port = portWatch{wake: r.k.Wake(ctx, r.plan.Spec), interval: r.plan.Policy.Interval}
	}
	act := func() {
		sent, ended, failed = r.send(from, to)
		if len(sent) > 0 && failed == nil {
			shut = r.shutDown(to, listeners)
		} else {
			closeAll(listeners) // not everybody who shares them was killed, or nobody was left
		}
	}
	// What is done is done before any of it is told: a master has no time to
	// replace a worker, nor a slow terminal any to delay the port.
	if len(listeners) > 0 {
		r.k.Urgent(act)
	} else {
		act()
	}
	for _, i := range ended {
		r.gone(i)
	}
	for _, i := range sent {
		r.emit(Event{Kind: EventSignal, Step: i, Holder: r.plan.Steps[i].Holder, Signal: SignalName(r.plan.Steps[i].Signal)})
	}
	if failed != nil {
		r.emit(*failed)
		return failed.Err
	}
	if shut != nil {
		r.emit(*shut)
		if shut.Err == nil {
			for _, i := range sent {
				r.endedAt[r.plan.Steps[i].Holder.ID.PID] = shut.At
			}
			return nil
		}
	}
	return r.await(ctx, kind, sent, port)
}

// waitStep is the index of the step that waits for the port, or -1.
func (r *run) waitStep() int {
	return slices.IndexFunc(r.plan.Steps, func(s Step) bool { return s.Kind == StepWait })
}

// await waits for those who were sent a signal, and fails if one is left that
// no later rung will end.
func (r *run) await(ctx context.Context, kind StepKind, sent []int, port portWatch) error {
	var bound time.Duration
	for _, i := range sent {
		bound = max(bound, r.plan.Steps[i].AtMost)
	}
	left, err := r.waitGone(ctx, sent, bound, port)
	if err != nil {
		return err
	}
	if len(left) == 0 || r.freed || kind == StepTerm && !r.plan.Policy.NoKill {
		return nil
	}
	s := &r.plan.Steps[left[0]]
	r.emit(Event{Kind: EventSurvived, Step: left[0], Holder: s.Holder})
	if kind == StepKill {
		return &endError{fmt.Sprintf("%s did not end within %v of SIGKILL, so it is stuck in the kernel", name(s.Holder), bound), ErrSurvived}
	}
	return &endError{fmt.Sprintf("%s did not end within %v of %s, and the plan has no SIGKILL", name(s.Holder), bound, SignalName(s.Signal)), ErrSurvived}
}

// send sends the signals of the steps [from, to). It returns the steps whose
// targets got theirs and those whose targets had ended, and stops at the first
// failure, which it returns as the event to report.
func (r *run) send(from, to int) (sent, ended []int, failed *Event) {
	for i := from; i < to; i++ {
		s := &r.plan.Steps[i]
		p := r.opened[s.Holder.ID.PID]
		if p == nil {
			continue
		}
		select {
		case <-p.Done():
			ended = append(ended, i)
			continue
		default:
		}
		switch err := p.Signal(s.Signal); {
		case errors.Is(err, ErrGone):
			ended = append(ended, i)
			continue
		case err != nil:
			err = fmt.Errorf("cannot send %s to %s: %w", SignalName(s.Signal), name(s.Holder), err)
			return sent, ended, &Event{Kind: EventError, Step: i, Holder: s.Holder, Err: err}
		}
		if _, again := r.sentAt[s.Holder.ID.PID]; !again {
			r.sentAt[s.Holder.ID.PID] = time.Now()
		}
		sent = append(sent, i)
	}
	return sent, ended, nil
}

// take duplicates the listeners of a step from one of their holders each,
// while these live: a dying process refuses. If one cannot be taken, none is,
// since the port hangs on the exits then, and that is said.
func (r *run) take(step int) []taken {
	var all []taken
	for _, s := range r.plan.Steps[step].Sockets {
		l, err := r.takeOne(s)
		if err != nil {
			closeAll(all)
			r.emit(Event{Kind: EventShutdown, Step: step, Err: err})
			return nil
		}
		all = append(all, taken{l, s})
	}
	return all
}

func (r *run) takeOne(s netstate.Socket) (Listener, error) {
	err := error(ErrGone)
	for i := range r.plan.Verdict.Blockers {
		b := &r.plan.Verdict.Blockers[i]
		if b.Socket != s {
			continue
		}
		for _, h := range b.Holders {
			p := r.opened[h.ID.PID]
			if p == nil {
				continue
			}
			var l Listener
			if l, err = p.Take(h, s); err == nil {
				return l, nil
			}
		}
	}
	return nil, err
}

// shutDown ends the listening, after SIGKILL was sent to everybody who shares
// a listener. It returns the event that says so, or nil if there is nothing to
// shut down.
func (r *run) shutDown(step int, listeners []taken) *Event {
	if len(listeners) == 0 {
		return nil
	}
	for i, l := range listeners {
		if err := l.Shutdown(); err != nil {
			closeAll(listeners[i:])
			return &Event{Kind: EventShutdown, Step: step, Err: err}
		}
		r.shut = append(r.shut, l)
	}
	shut := &Event{At: time.Now(), Kind: EventShutdown, Step: step, Count: len(listeners)}
	if step+1 < len(r.plan.Steps) && r.plan.Steps[step+1].Kind == StepWait {
		probe := r.bind()
		r.first = &probe
	}
	return shut
}

func closeAll(ls []taken) {
	for _, l := range ls {
		l.Close()
	}
}

// portWatch says how to look at the port while its holders are waited for. The
// zero value does not look at it.
type portWatch struct {
	wake     <-chan struct{}
	interval time.Duration // the safety net; 0 is not at all
}

// settleTime is how long a holder that no longer blocks the port has to be gone
// before it counts as one that goes on with its work, and how long a bind has
// to succeed before it counts as more than a server that reloads.
const settleTime = 20 * time.Millisecond

// waitGone waits for the targets of the steps and returns those that are left
// when the bound is over. The port is what a plan is about, so if it can be
// bound before, whoever is left is left alone, and r.freed is set.
func (r *run) waitGone(ctx context.Context, steps []int, bound time.Duration, port portWatch) ([]int, error) {
	exits := make(chan int, len(steps))
	stop := make(chan struct{})
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer close(stop)
	for _, i := range steps {
		p := r.opened[r.plan.Steps[i].Holder.ID.PID]
		watchers.Go(func() {
			select {
			case <-p.Done():
				exits <- i
			case <-stop:
			}
		})
	}
	timer := time.NewTimer(bound)
	defer timer.Stop()
	settled := time.NewTimer(0)
	settled.Stop()
	defer settled.Stop()
	var tick <-chan time.Time
	if port.interval > 0 {
		ticker := time.NewTicker(port.interval)
		defer ticker.Stop()
		tick = ticker.C
	}
	left := slices.Clone(steps)
	free := false // the last bind succeeded
	for len(left) > 0 {
		select {
		case i := <-exits:
			r.gone(i)
			left = slices.DeleteFunc(left, func(s int) bool { return s == i })
		case <-timer.C:
			if port.interval > 0 && r.bindable() {
				r.drains(left)
				r.freed = true
			}
			return left, nil
		case <-port.wake:
			if !free && r.bindable() {
				free = true
				settled.Reset(settleTime)
			}
		case <-tick:
			if !free && r.bindable() {
				free = true
				settled.Reset(settleTime)
			}
		case <-settled.C:
			if free = r.bindable(); !free {
				continue
			}
			r.drains(left)
			if !r.sameState(left) {
				r.freed = true
				return left, nil
			}
		case <-ctx.Done():
			return left, ctx.Err()
		}
	}
	r.first = nil // the exits came after it
	return nil, nil
}

// bindable makes a bind, and keeps a success for the step that waits for one.
func (r *run) bindable() bool {
	probe := r.k.TryBind(r.plan.Spec)
	if !probe.Bindable() {
		return false
	}
	r.first = &probe
	return true
}

// drains reports, once, those that have let the port go and are still there.
func (r *run) drains(steps []int) {
	for _, i := range steps {
		h := r.plan.Steps[i].Holder
		if !r.draining[h.ID.PID] {
			r.draining[h.ID.PID] = true
			at := r.first.At.Add(r.first.Took) // which the event of the bind is to follow
			r.emit(Event{At: at, Kind: EventDraining, Step: i, Holder: h, Took: at.Sub(r.sentAt[h.ID.PID])})
		}
	}
}

// sameState reports whether one of the targets is an earlier instance of the
// gateway that is started next. That needs more than the port: the two may
// share a directory with a lock, so the rest of the grace is left to the old.
func (r *run) sameState(steps []int) bool {
	return slices.ContainsFunc(steps, func(i int) bool {
		return sameCommand(r.plan.Steps[i].Holder.Cmdline, r.plan.Policy.Own)
	})
}

// gone reports the end of a target once and lets go of it.
func (r *run) gone(step int) {
	h := r.plan.Steps[step].Holder
	e := Event{Kind: EventExit, Step: step, Holder: h}
	r.endedAt[h.ID.PID] = time.Time{}
	if sent, ok := r.sentAt[h.ID.PID]; ok {
		r.endedAt[h.ID.PID] = time.Now()
		e.Took = time.Since(sent)
	}
	if p := r.opened[h.ID.PID]; p != nil {
		p.Close()
		delete(r.opened, h.ID.PID)
	}
	r.emit(e)
}
