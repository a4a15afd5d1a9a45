//go:build !linux

package reclaim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"berth/netstate"
)

// pollExit is how often the end of a process is looked for, on systems where
// this package has no event for it.
const pollExit = 20 * time.Millisecond

// Open compares the start time at once and again before each signal, which
// leaves a window of microseconds that a pidfd would close.
func (*System) Open(h netstate.Holder) (Process, error) {
	id := h.ID
	if err := same(id); err != nil {
		return nil, err
	}
	proc, err := os.FindProcess(id.PID)
	if err != nil {
		return nil, ErrGone
	}
	p := &polledProcess{id: id, proc: proc, done: make(chan struct{}), stop: make(chan struct{})}
	p.watcher.Go(p.watch)
	return p, nil
}

// same returns ErrGone or ErrStale unless id is still that process.
func same(id netstate.ProcessID) error {
	now, err := netstate.IdentifyProcess(id.PID)
	switch {
	case err != nil:
		return ErrGone
	case now != id:
		return ErrStale
	}
	return nil
}

type polledProcess struct {
	id      netstate.ProcessID
	proc    *os.Process
	done    chan struct{}
	stop    chan struct{}
	watcher sync.WaitGroup
}

func (p *polledProcess) watch() {
	tick := time.NewTicker(pollExit)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			if same(p.id) != nil {
				close(p.done)
				return
			}
		}
	}
}

func (p *polledProcess) Done() <-chan struct{} { return p.done }

// Check cannot tell an exec here.
func (p *polledProcess) Check() error { return same(p.id) }

func (p *polledProcess) Signal(sig syscall.Signal) error {
	if err := same(p.id); err != nil {
		return ErrGone
	}
	err := p.proc.Signal(deliverable(sig))
	if errors.Is(err, os.ErrProcessDone) {
		return ErrGone
	}
	return err
}

// Take is not possible here.
func (p *polledProcess) Take(netstate.Holder, netstate.Socket) (Listener, error) {
	return nil, fmt.Errorf("taking a socket of another process: %w on this system", errors.ErrUnsupported)
}

// Close ends the watching goroutine.
func (p *polledProcess) Close() error {
	close(p.stop)
	p.watcher.Wait()
	return p.proc.Release()
}

// Ready prepares nothing.
func (k *System) Ready(spec netstate.BindSpec) (bind func() netstate.Probe, close func()) {
	return func() netstate.Probe { return k.TryBind(spec) }, func() {}
}

// Destroy is not possible here: the sockets end by themselves.
func (*System) Destroy(context.Context, netstate.BindSpec, []netstate.Socket) (int, error) {
	return 0, fmt.Errorf("destroying single sockets: %w on this system", errors.ErrUnsupported)
}

// Urgent only calls do.
func (*System) Urgent(do func()) { do() }

// Wake returns nil: there is no event for the end of a socket here.
func (*System) Wake(context.Context, netstate.BindSpec) <-chan struct{} { return nil }

func mayDestroy() bool { return false }
