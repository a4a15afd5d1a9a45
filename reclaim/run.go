package reclaim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"berth/netstate"
)

// Run does what the plan says, reporting each event in order from the calling
// goroutine, and returns nil once a real bind has succeeded. It signals
// nobody if the plan is not feasible or if any target is another program by
// now. If ctx ends, it stops waiting and returns ctx's error; what was done
// stays done and has been reported.
func Run(ctx context.Context, k Kernel, plan Plan, on func(Event)) error {
	if !plan.Feasible {
		return &InfeasibleError{Plan: plan}
	}
	r := &run{k: k, plan: &plan, on: on, opened: map[int]Process{}}
	defer r.close()
	if err := r.run(ctx); err != nil {
		if ctx.Err() != nil {
			r.emit(Event{Kind: EventCancelled, Step: r.step, Err: ctx.Err()})
			return ctx.Err()
		}
		return err
	}
	return nil
}

type run struct {
	k      Kernel
	plan   *Plan
	on     func(Event)
	step   int
	opened map[int]Process   // by pid; a target that was gone already has none
	sentAt map[int]time.Time // when its first signal was sent
}

func (r *run) emit(e Event) {
	e.At = time.Now()
	r.on(e)
}

func (r *run) close() {
	for _, p := range r.opened {
		p.Close()
	}
}

func (r *run) run(ctx context.Context) error {
	if err := r.open(); err != nil {
		return err
	}
	r.sentAt = map[int]time.Time{}
	for i := 0; i < len(r.plan.Steps); {
		r.step = i
		kind := r.plan.Steps[i].Kind
		group := i
		for i < len(r.plan.Steps) && r.plan.Steps[i].Kind == kind {
			i++
		}
		var err error
		switch kind {
		case StepTerm, StepKill:
			err = r.signal(ctx, kind, group, i)
		case StepDestroy:
			err = r.destroy(ctx)
		case StepWait:
			err = r.wait(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open takes hold of every target before the first signal, so that a plan
// whose facts are old does nothing at all rather than half of it.
func (r *run) open() error {
	for i, s := range r.plan.Steps {
		if s.Kind != StepTerm {
			continue
		}
		p, err := r.k.Open(s.Holder.ID)
		switch {
		case err == nil:
			r.opened[s.Holder.ID.PID] = p
		case errors.Is(err, ErrGone):
			r.emit(Event{Kind: EventExit, Step: i, Holder: s.Holder})
		case errors.Is(err, ErrStale):
			r.emit(Event{Kind: EventStale, Step: i, Holder: s.Holder, Err: err})
			return &endError{fmt.Sprintf("%d is now another program; nothing was signalled", s.Holder.ID.PID), ErrStale}
		default:
			err = fmt.Errorf("cannot take hold of %s; nothing was signalled: %w", name(s.Holder), err)
			r.emit(Event{Kind: EventError, Step: i, Holder: s.Holder, Err: err})
			return err
		}
	}
	return nil
}

// signal sends one signal to each target of the steps [from, to) that is
// still alive, and waits until all are gone or the longest bound is over.
func (r *run) signal(ctx context.Context, kind StepKind, from, to int) error {
	var alive []int // indexes of steps
	bound := time.Duration(0)
	for i := from; i < to; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := r.plan.Steps[i].Holder
		p := r.opened[h.ID.PID]
		if p == nil {
			continue
		}
		sig, send := "SIGTERM", p.Terminate
		if kind == StepKill {
			sig, send = "SIGKILL", p.Kill
		}
		select {
		case <-p.Done():
			r.gone(i)
			continue
		default:
		}
		switch err := send(); {
		case errors.Is(err, ErrGone):
			r.gone(i)
			continue
		case err != nil:
			err = fmt.Errorf("cannot send %s to %s: %w", sig, name(h), err)
			r.emit(Event{Kind: EventError, Step: i, Holder: h, Err: err})
			return err
		}
		if _, again := r.sentAt[h.ID.PID]; !again {
			r.sentAt[h.ID.PID] = time.Now()
		}
		r.emit(Event{Kind: EventSignal, Step: i, Holder: h, Signal: sig})
		alive = append(alive, i)
		bound = max(bound, r.plan.Steps[i].AtMost)
	}
	left, err := r.waitGone(ctx, alive, bound)
	if err != nil {
		return err
	}
	if len(left) == 0 || kind == StepTerm && !r.plan.Policy.NoKill {
		return nil
	}
	h := r.plan.Steps[left[0]].Holder
	r.emit(Event{Kind: EventSurvived, Step: left[0], Holder: h})
	if kind == StepKill {
		return &endError{fmt.Sprintf("%s did not end within %v of SIGKILL, so it is stuck in the kernel", name(h), bound), ErrSurvived}
	}
	return &endError{fmt.Sprintf("%s did not end within %v of SIGTERM, and the plan has no SIGKILL", name(h), bound), ErrSurvived}
}

// waitGone waits for the targets of the steps and returns those that are left
// when the bound is over.
func (r *run) waitGone(ctx context.Context, steps []int, bound time.Duration) ([]int, error) {
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
	left := append([]int(nil), steps...)
	for len(left) > 0 {
		select {
		case i := <-exits:
			r.gone(i)
			for j, s := range left {
				if s == i {
					left = append(left[:j], left[j+1:]...)
					break
				}
			}
		case <-timer.C:
			return left, nil
		case <-ctx.Done():
			return left, ctx.Err()
		}
	}
	return nil, nil
}

// gone reports the end of a target once and lets go of it.
func (r *run) gone(step int) {
	h := r.plan.Steps[step].Holder
	e := Event{Kind: EventExit, Step: step, Holder: h}
	if sent, ok := r.sentAt[h.ID.PID]; ok {
		e.Took = time.Since(sent)
	}
	r.opened[h.ID.PID].Close()
	delete(r.opened, h.ID.PID)
	r.emit(e)
}

// destroy ends what only the kernel holds now. The sockets are read again,
// since those of a holder that has just ended are the ones that count.
func (r *run) destroy(ctx context.Context) error {
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
	if len(sockets) == 0 {
		return nil
	}
	n, err := r.k.Destroy(ctx, r.plan.Spec, sockets)
	r.emit(Event{Kind: EventDestroyed, Step: r.step, Count: n})
	if err != nil {
		err = fmt.Errorf("destroyed %d of %d sockets: %w", n, len(sockets), err)
		r.emit(Event{Kind: EventError, Step: r.step, Err: err})
		return err
	}
	return nil
}

func (r *run) wait(ctx context.Context) error {
	return waitBindable(ctx, r.k, r.plan.Spec, r.plan.Policy.Wait, r.plan.Policy.Interval, func(e Event) {
		e.Step = r.step
		r.on(e)
	})
}
