package gatewaylaunch

import (
	"context"
	"slices"
	"time"

	"berth/netstate"
)

const (
	// The socket table is read at this pace while the gateway is not ready:
	// often at first, since many servers need a few milliseconds, and less
	// often for those that need seconds.
	readyFirst = 10 * time.Millisecond
	readyLast  = 250 * time.Millisecond
	readyLate  = time.Second // after the ready timeout
	// A look may cost a walk over all processes. The pause is at least this
	// many times as long, so that watching takes a tenth of a core at most.
	readyShare = 10
)

// readiness is what watching for the listener found: a process of the tree
// that listens, or that the timeout is over.
type readiness struct {
	pid  int
	addr string
	late *NotReadyError
}

// watchReady looks until a process of the gateway's tree listens on the
// port, sends that and ends; it sends once before if the timeout is over by
// then. The channel is closed when the watching has ended, at the latest soon
// after ctx.
func (l *Launcher) watchReady(ctx context.Context, p *process) <-chan readiness {
	found := make(chan readiness)
	go func() {
		defer close(found)
		send := func(r readiness) {
			select {
			case found <- r:
			case <-ctx.Done():
			}
		}
		start, pace, late := time.Now(), readyFirst, false
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			began := time.Now()
			pid, addr, err := l.listener(ctx, p)
			if pid != 0 {
				send(readiness{pid: pid, addr: addr})
				return
			}
			if waited := time.Since(start); !late && waited >= l.readyTimeout() {
				late, pace = true, readyLate
				send(readiness{late: &NotReadyError{Spec: l.Spec, Waited: waited, Err: err}})
			}
			timer.Reset(max(pace, readyShare*time.Since(began)))
			if !late {
				pace = min(pace*3/2, readyLast)
			}
		}
	}()
	return found
}

// listener returns the process of the gateway's tree that listens on the
// port, and its address: the expected one if it listens on several. Somebody
// else's listener on the same port proves nothing.
func (l *Launcher) listener(ctx context.Context, p *process) (pid int, addr string, err error) {
	snap, err := l.Kernel.Read(ctx)
	if err != nil {
		return 0, "", err
	}
	sockets := slices.Clone(snap.Port(l.Spec.Port))
	sockets = slices.DeleteFunc(sockets, func(s netstate.Socket) bool { return s.State != netstate.Listen })
	if len(sockets) == 0 {
		return 0, "", nil
	}
	owners, err := l.Kernel.Owners(ctx, sockets)
	if err != nil {
		return 0, "", err
	}
	for i := range sockets {
		s := &sockets[i]
		expected := s.Local.Addr() == l.Spec.Addr
		if pid != 0 && !expected {
			continue
		}
		own := slices.IndexFunc(owners.Of(s), p.includes)
		if own < 0 {
			p.foreign.Store(true)
			continue
		}
		pid, addr = owners.Of(s)[own].ID.PID, s.Local.String()
		if pid != 0 && expected {
			break
		}
	}
	return pid, addr, nil
}
