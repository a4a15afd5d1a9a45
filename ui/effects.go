package ui

import (
	"context"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"berth/gatewaylaunch"
	"berth/netstate"
	"berth/reclaim"
)

// An effect is something that Update wants done outside. It is data, so that
// a test can see what a key would have caused, and a script can do it on a
// clock of its own; in the program, runner turns it into a tea.Cmd.
type effect interface{ isEffect() }

type (
	// effectObserve waits for the next observation.
	effectObserve struct{}
	// effectAfter sends the message that msg makes of the time then.
	effectAfter struct {
		wait time.Duration
		msg  func(time.Time) tea.Msg
	}
	effectFocus   struct{ spec *netstate.BindSpec }
	effectReach   struct{ reach Reach }
	effectRefresh struct{}
	effectPlan    struct {
		id  int
		req PlanRequest
	}
	// effectReclaim carries out the plan that was made for the dialog asked.
	effectReclaim struct{ id, asked int }
	// effectDrop lets go of the plan that was made, or is being made, for a
	// dialog.
	effectDrop struct{ asked int }
	// effectCancel stops the waiting of a reclaim.
	effectCancel struct{ id int }
	effectLaunch struct{ id int }
	// effectHandOver is effectLaunch by the plan that was made for the dialog
	// asked; job is what effectCancel calls it.
	effectHandOver struct {
		id, job, asked int
		how            gatewaylaunch.Handover
	}
	effectStop struct{}
	effectQuit struct{}
)

func (effectObserve) isEffect()  {}
func (effectAfter) isEffect()    {}
func (effectFocus) isEffect()    {}
func (effectReach) isEffect()    {}
func (effectRefresh) isEffect()  {}
func (effectPlan) isEffect()     {}
func (effectReclaim) isEffect()  {}
func (effectDrop) isEffect()     {}
func (effectCancel) isEffect()   {}
func (effectLaunch) isEffect()   {}
func (effectHandOver) isEffect() {}
func (effectStop) isEffect()     {}
func (effectQuit) isEffect()     {}

// runner does effects on the engine. It owns every goroutine that they need:
// close ends them and waits, except for the launch of a gateway that is to
// outlive the program, whose goroutine ends with the process.
type runner struct {
	engine Engine
	// ctx ends all but launches; launchCtx ends launches, and with them the
	// gateway.
	ctx, launchCtx       context.Context
	cancelAll, endLaunch context.CancelFunc

	mu      sync.Mutex
	closed  bool
	cancels map[int]context.CancelFunc // of running reclaims and hand-overs
	plans   map[int]*held              // by the dialog that asked
	work    sync.WaitGroup             // all but launches
	launch  sync.WaitGroup
}

// newRunner takes from ctx its values, not its end: a hung-up terminal must
// not stop a gateway that was meant to stay.
func newRunner(ctx context.Context, engine Engine) *runner {
	r := &runner{engine: engine, cancels: map[int]context.CancelFunc{}, plans: map[int]*held{}}
	ctx = context.WithoutCancel(ctx)
	r.ctx, r.cancelAll = context.WithCancel(ctx)
	r.launchCtx, r.endLaunch = context.WithCancel(ctx)
	return r
}

// close ends everything that was started. A gateway that is part of this
// program (the demo) is stopped first; any other goes on by itself.
func (r *runner) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancelAll()
	r.work.Wait()
	for asked := range r.plans { // nobody else is there any more
		r.drop(asked)
	}
	if r.engine.Gateway().Demo {
		r.endLaunch()
		r.launch.Wait()
	}
}

// held is a plan that a dialog has asked for; Held is nil until it is made.
type held struct {
	Held
	cancel context.CancelFunc
}

// drop lets go of a plan, or stops the making of it.
func (r *runner) drop(asked int) {
	r.mu.Lock()
	h := r.plans[asked]
	delete(r.plans, asked)
	var made Held
	if h != nil {
		made = h.Held
	}
	r.mu.Unlock()
	if h != nil {
		h.cancel()
	}
	if made != nil {
		made.Close()
	}
}

// begin registers a goroutine with its owner, unless the owner has closed.
func (r *runner) begin(owner *sync.WaitGroup) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	owner.Add(1)
	return true
}

// cmd turns an effect into a command of the program. Everything that can
// block happens when the command runs, in a goroutine of bubbletea's.
func (r *runner) cmd(e effect) tea.Cmd {
	switch e := e.(type) {
	case effectObserve:
		return func() tea.Msg {
			select {
			case obs, ok := <-r.engine.Observations():
				return observationMsg{obs: obs, ended: !ok}
			case <-r.ctx.Done():
				return nil
			}
		}
	case effectAfter:
		return tea.Tick(e.wait, func(at time.Time) tea.Msg { return e.msg(at) })
	case effectFocus:
		r.engine.Focus(e.spec)
	case effectReach:
		r.engine.Look(e.reach)
	case effectRefresh:
		r.engine.Refresh()
	case effectPlan:
		ctx, cancel := context.WithCancel(r.ctx)
		h := &held{cancel: cancel}
		r.mu.Lock()
		r.plans[e.id] = h
		r.mu.Unlock()
		return r.call(func() tea.Msg {
			plan, err := r.engine.Plan(ctx, e.req)
			if err != nil {
				return planMsg{id: e.id, err: err}
			}
			r.mu.Lock()
			wanted := r.plans[e.id] == h
			if wanted {
				h.Held = plan
			}
			r.mu.Unlock()
			if !wanted {
				plan.Close()
				return nil
			}
			return planMsg{id: e.id, plan: plan.Plan(), support: plan.Support()}
		})
	case effectDrop:
		return r.call(func() tea.Msg {
			r.drop(e.asked)
			return nil
		})
	case effectReclaim:
		ctx, cancel := context.WithCancel(r.ctx)
		r.mu.Lock()
		r.cancels[e.id] = cancel
		r.mu.Unlock()
		return r.stream(&r.work, func(send func(tea.Msg)) tea.Msg {
			defer cancel()
			defer r.drop(e.asked)
			r.mu.Lock()
			plan := r.plans[e.asked]
			r.mu.Unlock()
			err := plan.Run(ctx, func(ev reclaim.Event) { send(runMsg{e.id, ev}) })
			return runDoneMsg{e.id, err}
		})
	case effectCancel:
		r.mu.Lock()
		cancel := r.cancels[e.id]
		r.mu.Unlock()
		if cancel != nil {
			cancel()
		}
	case effectLaunch:
		return r.stream(&r.launch, func(send func(tea.Msg)) tea.Msg {
			err := r.engine.StartGateway(r.launchCtx, func(ev gatewaylaunch.RestartEvent) { send(launchMsgOf(e.id, ev)) })
			return launchDoneMsg{e.id, err}
		})
	case effectHandOver:
		ctx, cancel := context.WithCancel(r.launchCtx)
		r.mu.Lock()
		r.cancels[e.job] = cancel
		// It is held as long as the gateway runs, beyond the end of what close
		// waits for.
		plan := r.plans[e.asked]
		delete(r.plans, e.asked)
		r.mu.Unlock()
		return r.stream(&r.launch, func(send func(tea.Msg)) tea.Msg {
			defer cancel()
			defer plan.Close()
			err := r.engine.HandOver(ctx, plan.Held, e.how, func(ev gatewaylaunch.RestartEvent) { send(launchMsgOf(e.id, ev)) })
			return launchDoneMsg{e.id, err}
		})
	case effectStop:
		return r.call(func() tea.Msg { return stoppedMsg{r.engine.StopGateway(r.ctx)} })
	case effectQuit:
		return tea.Quit
	}
	return nil
}

// call makes one call that close waits for.
func (r *runner) call(f func() tea.Msg) tea.Cmd {
	return func() tea.Msg {
		if !r.begin(&r.work) {
			return nil
		}
		defer r.work.Done()
		return f()
	}
}

// stream runs work in a goroutine and brings each message that it sends to
// the program, in order and without losing one: the sender waits until the
// program has taken the last. When the program has ended, messages are
// dropped, so that work can still finish.
func (r *runner) stream(owner *sync.WaitGroup, work func(send func(tea.Msg)) tea.Msg) tea.Cmd {
	ch := make(chan tea.Msg)
	send := func(msg tea.Msg) {
		select {
		case ch <- msg:
		case <-r.ctx.Done():
		}
	}
	var next tea.Cmd
	next = func() tea.Msg {
		select {
		case msg, ok := <-ch:
			if !ok {
				return nil
			}
			return streamedMsg{msg: msg, next: next}
		case <-r.ctx.Done():
			return nil
		}
	}
	return tea.Batch(next, func() tea.Msg {
		if !r.begin(owner) {
			return nil
		}
		defer owner.Done()
		defer close(ch)
		send(work(send))
		return nil
	})
}
