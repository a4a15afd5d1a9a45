package reclaim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"berth/netstate"
)

// Run does what the plan says, reporting each event in order from the calling
// goroutine, and returns nil once a real bind has succeeded. It signals
// nobody if the plan is not feasible or if any target is another program by
// now. If ctx ends, it stops waiting and returns a *CancelledError; what was
// done stays done and has been reported.
func Run(ctx context.Context, k Kernel, plan Plan, on func(Event)) error {
	h := Hold(k, plan)
	defer h.Close()
	return h.Run(ctx, on)
}

// Held is a plan with a hold on each of its targets.
type Held struct {
	k      Kernel
	plan   Plan
	opened map[int]Process // by pid
	failed map[int]error   // why a target could not be opened
	// bind is the probe after a shutdown, which is prepared if there is one.
	bind   func() netstate.Probe
	unbind func()
}

// Hold takes hold of the targets of a plan that is about to be shown, so that
// what is confirmed cannot be mistaken for a later process with the same
// number. What fails is reported by Run. Of a plan that is not feasible nobody
// is held.
func Hold(k Kernel, plan Plan) *Held {
	h := &Held{k: k, plan: plan, opened: map[int]Process{}, failed: map[int]error{}}
	if !plan.Feasible {
		return h
	}
	for _, t := range plan.Targets() {
		p, err := k.Open(t)
		if err != nil {
			h.failed[t.ID.PID] = err
			continue
		}
		h.opened[t.ID.PID] = p
	}
	if slices.ContainsFunc(plan.Steps, func(s Step) bool { return s.Kind == StepShutdown }) {
		h.bind, h.unbind = k.Ready(plan.Spec)
	}
	return h
}

// Close lets go of all. It is called after Run, or instead of it.
func (h *Held) Close() {
	for pid, p := range h.opened {
		p.Close()
		delete(h.opened, pid)
	}
	if h.unbind != nil {
		h.unbind()
		h.unbind = nil
	}
}

// Run is the function of that name. It can be called once.
func (h *Held) Run(ctx context.Context, on func(Event)) error {
	if !h.plan.Feasible {
		return &InfeasibleError{Plan: h.plan}
	}
	r := &run{Held: h, on: on, sentAt: map[int]time.Time{}, endedAt: map[int]time.Time{}, draining: map[int]bool{}}
	err := r.run(ctx)
	if settled := r.settle(ctx); err == nil {
		err = settled
	}
	if err != nil && ctx.Err() != nil {
		err = &CancelledError{Done: r.done, Err: ctx.Err()}
		r.emit(Event{Kind: EventCancelled, Step: r.step, Err: err})
	}
	return err
}

type run struct {
	*Held
	on     func(Event)
	step   int
	sentAt map[int]time.Time
	// endedAt says when a target ended, or was sent a SIGKILL that nothing
	// waits for; zero if it had ended before.
	endedAt map[int]time.Time
	// draining are the targets that were reported as such, by pid; freed is set
	// when a bind has succeeded with them there, and nobody is to be killed.
	draining map[int]bool
	freed    bool
	// first is a probe that was made before the wait, for it.
	first *netstate.Probe
	// done says what cannot be taken back.
	done []string
	// shut are the listeners that were shut down, with their sockets.
	shut []taken
}

func (r *run) emit(e Event) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	switch e.Kind {
	case EventSignal:
		r.done = append(r.done, fmt.Sprintf("%s was sent to %s", e.Signal, name(e.Holder)))
	case EventCut:
		r.done = append(r.done, fmt.Sprintf("the connection of %s was destroyed", name(e.Holder)))
	case EventShutdown, EventDestroyed:
		if e.Count > 0 {
			r.done = append(r.done, fmt.Sprintf("%s %s", count(e.Count, "socket was", "sockets were"), map[EventKind]string{EventShutdown: "shut down", EventDestroyed: "destroyed"}[e.Kind]))
		}
	}
	r.on(e)
}

// run does one step after the other; neighbours of a kind are one, since what
// is sent to one process is not to wait for another.
func (r *run) run(ctx context.Context) error {
	if err := r.check(); err != nil {
		return err
	}
	for i := 0; i < len(r.plan.Steps); {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.step = i
		kind := r.plan.Steps[i].Kind
		group := i
		for i < len(r.plan.Steps) && r.plan.Steps[i].Kind == kind {
			i++
		}
		if r.freed && group < r.waitStep() {
			continue // the port is free without it
		}
		var err error
		switch kind {
		case StepTerm, StepKill:
			err = r.rung(ctx, kind, group, i)
		case StepShutdown:
			// It was done with SIGKILL, or there was none.
		case StepCut:
			err = r.cut(ctx, group, i)
		case StepDestroy:
			err = r.destroy(ctx)
		case StepWait:
			err = r.wait(ctx)
		case StepWatch:
			err = r.watch(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// check looks at every target before the first signal, so that a plan whose
// facts are old does nothing at all rather than half of it.
func (r *run) check() error {
	checked := map[int]bool{}
	for i, s := range r.plan.Steps {
		pid := s.Holder.ID.PID
		if s.Signal == 0 || checked[pid] {
			continue
		}
		checked[pid] = true
		err := r.failed[pid]
		if p := r.opened[pid]; p != nil {
			err = p.Check()
		}
		switch {
		case err == nil:
		case errors.Is(err, ErrGone):
			r.gone(i)
		case errors.Is(err, ErrStale):
			r.emit(Event{Kind: EventStale, Step: i, Holder: s.Holder, Err: err})
			text := fmt.Sprintf("%d is now another program", pid)
			var told *endError
			if errors.As(err, &told) {
				text = told.text
			}
			return &endError{text + "; nothing was signalled", ErrStale}
		default:
			err = fmt.Errorf("cannot take hold of %s; nothing was signalled: %w", name(s.Holder), err)
			r.emit(Event{Kind: EventError, Step: i, Holder: s.Holder, Err: err})
			return err
		}
	}
	return nil
}

// cut destroys the connections of clients that use the port. The cookie names
// the connection that was shown, so no later one can be hit.
func (r *run) cut(ctx context.Context, from, to int) error {
	for i := from; i < to; i++ {
		s := &r.plan.Steps[i]
		if _, err := r.k.Destroy(ctx, r.plan.Spec, s.Sockets); err != nil {
			err = fmt.Errorf("cannot destroy the connection of %s: %w", name(s.Holder), err)
			r.emit(Event{Kind: EventError, Step: i, Holder: s.Holder, Err: err})
			return err
		}
		r.emit(Event{Kind: EventCut, Step: i, Holder: s.Holder, Count: len(s.Sockets)})
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// destroyRounds bounds how often what lingers is read and destroyed. A
// connection that was still closing when it was read can be another socket
// twice before it is destroyed (FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT), and one
// that a process was only just closing was not yet there to be read. What still
// appears after that is made faster than it can be destroyed.
const destroyRounds = 4

// destroy ends what only the kernel holds now. The sockets are read again,
// since those of a holder that has just ended are the ones that count, and then
// once more as long as a bind is refused by others than those destroyed.
func (r *run) destroy(ctx context.Context) error {
	for range destroyRounds {
		v, err := r.k.Why(ctx, r.plan.Spec)
		if err != nil {
			return err
		}
		var sockets []netstate.Socket
		for i := range v.Blockers {
			if s := &v.Blockers[i].Socket; s.Lingering() {
				sockets = append(sockets, *s)
			}
		}
		switch {
		case len(sockets) > 0:
		case v.Reason == netstate.ReasonUnknown && len(v.Blockers) == 0:
			continue // a connection that becomes TIME-WAIT is in no table for a moment
		default:
			return nil
		}
		n, err := r.k.Destroy(ctx, r.plan.Spec, sockets)
		r.emit(Event{Kind: EventDestroyed, Step: r.step, Count: n})
		if err != nil {
			err = fmt.Errorf("destroyed %d of %d sockets: %w", n, len(sockets), err)
			r.emit(Event{Kind: EventError, Step: r.step, Err: err})
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		probe := r.k.TryBind(r.plan.Spec)
		if probe.Class() != netstate.ClassInUse {
			r.first = &probe
			return nil
		}
	}
	return nil
}

func (r *run) wait(ctx context.Context) error {
	w := newWaiter(r.k, r.plan.Spec, r.plan.Policy.Wait, r.report)
	w.stop, w.first = r.isBack, r.first
	return w.wait(ctx, r.plan.Policy.Interval)
}

func (r *run) report(e Event) {
	e.Step = r.step
	r.on(e)
}

// isBack ends the run if a stopped holder has the port again: to stop it once
// more would only be a loop.
func (r *run) isBack(v *netstate.Verdict) error {
	back := r.respawned(v)
	if back == nil {
		return nil
	}
	r.emit(Event{Kind: EventRespawn, Step: r.step, Holder: back.New, Took: max(back.After, 0), Verdict: v, Err: back})
	return back
}

// watchEvery is the longest pause between two looks. A look makes a bind, so
// there are few, and the interval that is told comes from the start time of the
// new holder and not from when it was seen.
const watchEvery = 500 * time.Millisecond

// watch looks whether a stopped holder comes back, a few times and at last when
// the step's time is over.
func (r *run) watch(ctx context.Context) error {
	const looks = 4
	atMost := r.plan.Steps[r.step].AtMost
	end := time.Now().Add(atMost)
	r.emit(Event{Kind: EventWatch, Step: r.step, Holder: r.plan.Steps[r.step].Holder, Deadline: end})
	for {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		pause := time.NewTimer(min(max(atMost/looks, 1), watchEvery, left))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
		r.leave()
		v, err := r.k.Why(ctx, r.plan.Spec)
		if err != nil {
			return err
		}
		if err := r.isBack(&v); err != nil {
			return err
		}
	}
}

// leave reports the end of those who went on after they had let the port go:
// only then can another take their place.
func (r *run) leave() {
	for i := range r.plan.Steps {
		s := &r.plan.Steps[i]
		p := r.opened[s.Holder.ID.PID]
		if s.Kind != StepTerm || p == nil || !r.draining[s.Holder.ID.PID] {
			continue
		}
		select {
		case <-p.Done():
			r.gone(i)
		default:
		}
	}
}

// settle makes sure that no listener was shut down which a process still
// shares that was not killed: one that was started after the plan was made.
// Nobody can come to share it after SIGKILL, since a process with a pending
// SIGKILL can neither fork nor send. It is done even if the run was cancelled.
func (r *run) settle(ctx context.Context) error {
	defer func() {
		for _, t := range r.shut {
			t.Close()
		}
	}()
	if len(r.shut) == 0 {
		return nil
	}
	sockets := make([]netstate.Socket, len(r.shut))
	for i := range r.shut {
		sockets[i] = r.shut[i].socket
	}
	owners, err := r.k.Owners(context.WithoutCancel(ctx), sockets)
	if err != nil {
		err = fmt.Errorf("cannot tell whether another process shares the listener that was shut down: %w", err)
		r.emit(Event{Kind: EventError, Step: r.step, Err: err})
		return err
	}
	var shared error
	for i := range r.shut {
		for _, h := range owners.Of(&sockets[i]) {
			if r.isOurs(h) {
				continue
			}
			err := r.shut[i].Listen()
			r.emit(Event{Kind: EventRestored, Step: r.step, Holder: h, Err: err})
			text := fmt.Sprintf("%s came to share the listener after the plan was made; it listens again, so free the port once more to stop it too", name(h))
			if err != nil {
				text = fmt.Sprintf("%s came to share the listener after the plan was made, and no longer listens (%v): it has to be restarted", name(h), err)
			}
			shared = &endError{text, ErrShared}
			break
		}
	}
	return shared
}

// isOurs: a killed process is listed until it has ended, and this one because
// it has taken the socket.
func (r *run) isOurs(h netstate.Holder) bool {
	return h.ID.PID == os.Getpid() || slices.ContainsFunc(r.plan.Targets(), func(t netstate.Holder) bool { return t.ID == h.ID })
}
