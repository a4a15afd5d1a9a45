package gatewaylaunch

import (
	"context"
	"os"
	"syscall"
	"time"

	"berth/netstate"
)

// attempt is one start of the gateway and all that came of it.
type attempt struct {
	evidence
	pid  int
	took time.Duration
	// refusal explains why the address was refused, if it was.
	refusal *netstate.Verdict
	// stopped is set if the gateway was asked to end, at askedAt.
	stopped bool
	askedAt time.Time
	askedBy os.Signal // nil if the context ended
	left    bool      // it goes on without this process
}

// try starts the gateway and stays with it until it and what it leaves behind
// have ended. The error is a *StartError.
func (r *run) try(ctx context.Context) (*attempt, error) {
	a := &attempt{}
	if ctx.Err() == nil {
		r.emit(Event{Kind: EventAttempt})
	}
	if ctx.Err() != nil {
		a.ask()
		return a, nil
	}
	a.before = r.Kernel.TryBind(r.Spec).Class()
	if a.before == netstate.ClassInUse {
		// The holder may be gone when the gateway has noticed it.
		if v, err := r.Kernel.Why(ctx, r.Spec); err == nil && !v.Bindable {
			a.refusal = &v
		}
	}
	p, err := r.start()
	if err != nil {
		return nil, err
	}
	defer p.close()
	started := time.Now()
	a.pid, a.heard = p.pid, p.heard
	r.emit(Event{Kind: EventStarted, PID: a.pid})

	r.watch(ctx, p, a, started)
	if a.left {
		go func() {
			<-p.exited
			_ = p.cmd.Wait() // nobody asks, but it must not stay a zombie
		}()
		p.out.drain()
		r.receive(p, a, nil)
		return a, nil
	}
	a.foreign = p.foreign.Load()
	a.exit, a.took = p.reap(), time.Since(started)
	if w, ok := r.Starter.(bindWatcher); ok {
		a.watched = w.Watched()
	}
	failed := !a.stopped && !a.ready && a.exit.Code != 0
	if failed {
		a.after = r.Kernel.TryBind(r.Spec).Class()
	}
	if !a.stopped && a.exit.Code != 0 {
		// What a failed gateway leaves behind could hold the port against
		// the next one. One that ends with status 0 may have left a daemon
		// on purpose.
		r.receive(p, a, p.stop(r.grace(), true))
	}
	p.out.drain()
	r.receive(p, a, nil)
	if failed {
		r.confirm(ctx, a)
	}
	return a, nil
}

// confirm asks the kernel about the gateway's words, and explains the refusal
// if there was one.
func (r *run) confirm(ctx context.Context, a *attempt) {
	if a.watched != nil {
		if a.cause() == causeInUse {
			a.refusal = findRefused(ctx, r.Kernel, []netstate.BindSpec{a.watched.Spec})
		}
		return
	}
	a.vague = r.GuessedPort && a.inUse != "" && len(addressesIn(a.inUse)) == 0
	if a.inUse == "" && a.cause() != causeInUse {
		return
	}
	specs := suspects(r.Spec, a.inUse)
	if a.since > lastWords {
		specs = specs[:1] // it went on to speak of other things
	}
	v := findRefused(ctx, r.Kernel, specs)
	if v == nil {
		return
	}
	a.refusal = v
	if v.Spec == r.Spec {
		a.after = netstate.ClassInUse
	} else {
		a.other = true
	}
}

func (a *attempt) ask() { a.stopped, a.askedAt = true, time.Now() }

// watch reports what the gateway does until it has ended, or until nothing of
// it is left if it was asked to end.
func (r *run) watch(ctx context.Context, p *process, a *attempt, started time.Time) {
	watching, cancel := context.WithCancel(ctx)
	signs := r.watchState(watching, p)
	defer func() {
		cancel()
		for range signs {
			// Wait for the watching to end: it asks about a pid that is
			// about to be given away.
		}
	}()
	lines, found, exited, cancelled := p.out.lines, signs, p.exited, ctx.Done()
	var gone <-chan struct{}
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				lines = nil // it closed its output and runs on
				continue
			}
			r.line(a, line)
		case s, ok := <-found:
			if !ok {
				found = nil
				continue
			}
			a.ready = a.ready || s.kind == EventListening || s.kind == EventReady
			r.emit(Event{Kind: s.kind, PID: max(s.pid, 0), Line: s.addr, Took: s.took, Err: s.err})
		case sig := <-r.signals:
			r.forward(p, a, sig)
		case <-cancelled:
			cancelled, exited = nil, nil
			ask := !a.stopped
			a.ask()
			gone = p.stop(r.grace(), ask)
		case <-r.Leave:
			a.left = true
			return
		case <-exited:
			return
		case <-gone:
			return
		}
	}
}

// forward passes a signal on, unless the terminal has done so already. The
// second of the same kind means that the first was not enough: Ctrl-C asks the
// gateway to end, and once more ends it with everything that it started.
func (r *run) forward(p *process, a *attempt, sig os.Signal) {
	if ends(sig) && sig != syscall.SIGHUP { // SIGHUP makes many servers read their configuration again
		if a.stopped && a.askedBy == sig {
			p.group.killTree()
			return
		}
		a.ask()
		a.askedBy = sig
	}
	if !delivered(sig) {
		// It fails if the gateway has ended, which is reported next.
		_ = p.cmd.Process.Signal(sig)
	}
}

// receive reports the output until done is closed, or with a nil done until
// the output ends.
func (r *run) receive(p *process, a *attempt, done <-chan struct{}) {
	lines := p.out.lines
	for {
		select {
		case line, ok := <-lines:
			if ok {
				r.line(a, line)
				continue
			}
			if done == nil {
				return
			}
			lines = nil
		case <-done:
			return
		}
	}
}

func (r *run) line(a *attempt, line outputLine) {
	if !a.ready {
		a.hear(line.text)
	}
	if !r.Foreground {
		r.emit(Event{Kind: EventOutput, PID: a.pid, Stream: line.stream, Line: line.text})
	}
}
