package netstatetest

import (
	"errors"
	"slices"
	"syscall"

	"berth/netstate"
)

// Listener is a listening socket that was taken from a process. It keeps the
// socket alive until it is closed, as a duplicate of its descriptor does.
type Listener struct {
	k *Kernel
	e *entry
	// before is the socket as it was when it was taken.
	before netstate.Socket
}

// Take duplicates a process's hold on the listener with the inode of s.
func (p *Process) Take(s netstate.Socket) (*Listener, error) {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	switch {
	case p.does.Keep != nil:
		return nil, p.does.Keep
	case p.killed || p.hasEnded():
		return nil, syscall.ESRCH // the kernel gives nothing of a dying process
	}
	for _, e := range p.k.sockets {
		if e.Inode == s.Inode && e.State == netstate.Listen && slices.Contains(e.holders, p) {
			p.k.call(Call{Op: "take", PID: p.holder.ID.PID})
			e.taken++
			return &Listener{k: p.k, e: e, before: e.Socket}, nil
		}
	}
	return nil, errors.New("no such listener")
}

// Shutdown ends the listening and sets SO_REUSEADDR.
func (l *Listener) Shutdown() error {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	l.k.call(Call{Op: "shutdown"})
	l.e.State, l.e.ReuseAddr = netstate.Bound, netstate.Yes
	return nil
}

// Listen undoes Shutdown, unless something else listens there by now.
func (l *Listener) Listen() error {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	l.k.call(Call{Op: "listen"})
	for _, e := range l.k.sockets {
		if e != l.e && e.State == netstate.Listen && e.Local == l.e.Local {
			return syscall.EADDRINUSE
		}
	}
	l.e.State, l.e.ReuseAddr = l.before.State, l.before.ReuseAddr
	return nil
}

// Close lets go of the socket, which ends with its last holder.
func (l *Listener) Close() error {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	mustf(l.e.taken > 0, "a listener was closed more often than taken")
	l.e.taken--
	if l.e.taken == 0 && len(l.e.holders) == 0 {
		l.k.remove(l.e.Cookie)
	}
	return nil
}

// Share makes p a further holder of a socket, as fork or SCM_RIGHTS do.
func (k *Kernel) Share(cookie uint64, p *Process) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.sockets {
		if e.Cookie == cookie {
			e.holders = append(e.holders, p)
			return
		}
	}
	mustf(false, "no socket has the cookie %d", cookie)
}
