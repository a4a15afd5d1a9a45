package netstatetest

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"berth/netstate"
)

// The answers of Open, and of a signal to a process that has ended.
var (
	ErrStale = errors.New("the process is another program now")
	ErrGone  = errors.New("the process is gone")
)

// Never is the delay of what does not happen.
const Never time.Duration = -1

// Behaviour is what a process does about signals. The zero value ends at once.
type Behaviour struct {
	// Term and Kill are how long it takes to end after SIGTERM and SIGKILL.
	// Never ignores the signal; for SIGKILL that is a process stuck in the
	// kernel.
	Term, Kill time.Duration
	// Close is how long after a polite signal it closes its listeners, to
	// finish its work without them; 0 keeps them to its end.
	Close time.Duration
	// Keep is the answer to every try to take a listener, such as EPERM.
	Keep error
	// Refuse is the answer to every signal instead, such as EPERM.
	Refuse error
	// OnExit is called after its end, by nobody's goroutine in particular. A
	// supervisor starts the next one there.
	OnExit func()
}

// Process is a process of a Kernel, and also what Open returns.
type Process struct {
	k      *Kernel
	holder netstate.Holder
	does   Behaviour
	done   chan struct{}
	killed bool // guarded by k.mu
	opened int  // guarded by k.mu
}

// Start adds a process with the facts of h. A pid of 0 takes the next free
// number, a start time of 0 one that no process had before; giving the pid of
// a process that has ended is how a number is reused.
func (k *Kernel) Start(h netstate.Holder, does Behaviour) *Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h.ID.PID == 0 {
		for k.pid++; k.processes[k.pid] != nil; k.pid++ {
		}
		h.ID.PID = k.pid
	}
	old := k.processes[h.ID.PID]
	mustf(old == nil || old.hasEnded(), "process %d is alive, so its number cannot be given again", h.ID.PID)
	if h.ID.Start == 0 {
		h.ID.Start = k.next()
	}
	if h.Started.IsZero() {
		h.Started = time.Now()
	}
	p := &Process{k: k, holder: h, does: does, done: make(chan struct{})}
	k.processes[h.ID.PID] = p
	return p
}

// Holder returns the facts of the process.
func (p *Process) Holder() netstate.Holder { return p.holder }

// Exit ends the process now, as if by itself. Its sockets close, and a second
// Exit does nothing.
func (p *Process) Exit() {
	p.k.mu.Lock()
	if p.hasEnded() {
		p.k.mu.Unlock()
		return
	}
	close(p.done)
	p.k.closeBy(p)
	p.k.mu.Unlock()
	if p.does.OnExit != nil {
		p.does.OnExit()
	}
}

func (p *Process) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Open takes hold of a process. It returns ErrGone if no process has the pid,
// and ErrStale if another one has.
func (k *Kernel) Open(id netstate.ProcessID) (*Process, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.call(Call{Op: "open", PID: id.PID})
	p := k.processes[id.PID]
	if p == nil || p.hasEnded() {
		return nil, ErrGone
	}
	if p.holder.ID != id {
		return nil, ErrStale
	}
	p.opened++
	return p, nil
}

// Signal sends SIGKILL, or any other signal as a polite one.
func (p *Process) Signal(sig syscall.Signal) error {
	if sig == syscall.SIGKILL {
		return p.signal("kill", p.does.Kill)
	}
	return p.signal("term", p.does.Term)
}

func (p *Process) signal(op string, after time.Duration) error {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	p.k.call(Call{Op: op, PID: p.holder.ID.PID})
	if op == "kill" && !p.hasEnded() && p.does.Refuse == nil {
		p.killed = true
	}
	switch {
	case p.hasEnded():
		return ErrGone
	case p.does.Refuse != nil:
		return p.does.Refuse
	}
	if op == "term" && p.does.Close > 0 {
		time.AfterFunc(p.does.Close, p.closeListeners)
	}
	if after != Never {
		// By a timer even if at once: a signal returns before its effect.
		time.AfterFunc(after, p.Exit)
	}
	return nil
}

// closeListeners ends the listening, while the connections go on.
func (p *Process) closeListeners() {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	for _, e := range slices.Clone(p.k.sockets) {
		if i := slices.Index(e.holders, p); i >= 0 && e.State == netstate.Listen {
			if e.holders = slices.Delete(e.holders, i, i+1); len(e.holders) == 0 && e.taken == 0 {
				p.k.remove(e.Cookie)
			}
		}
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Close lets go of the process, once for each Open.
func (p *Process) Close() error {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	mustf(p.opened > 0, "process %d was closed more often than opened", p.holder.ID.PID)
	p.opened--
	return nil
}

// Opened returns how many holds on processes were not let go of yet.
func (k *Kernel) Opened() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, p := range k.processes {
		n += p.opened
	}
	return n
}
