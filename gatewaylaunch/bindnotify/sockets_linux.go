//go:build amd64 || arm64

package bindnotify

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"berth/netstate"
)

// enoughBacklog is the least length of the queue of a socket that is handed
// over: nobody accepts while the one server stops and the next one starts, and
// what does not fit is tried again by the client's kernel only after a second.
const enoughBacklog = 1024

// Sockets are listening sockets that are kept open from one server to the
// next. What clients have queued in them waits there. The zero value is empty.
type Sockets struct {
	mu   sync.Mutex
	kept []*keptSocket
}

type keptSocket struct {
	*socket
	key key
	// given: a program has got it; used: and has called listen on it.
	given, used bool
}

// Adopt duplicates a listening socket of a process that need not have been
// started by anybody here, and makes its queue long enough. The process keeps
// its own descriptor. It fails if the process is another one by now, if the
// descriptor is, or without the right to ptrace the process.
func (s *Sockets) Adopt(h netstate.Holder, l *netstate.Socket) error {
	op := fmt.Sprintf("take over the socket of %s from process %d", l.Local, h.ID.PID)
	fail := func(err error, why string) error { return &Error{Op: op, Err: err, Why: why} }
	if h.FD < 0 || l.Inode == 0 {
		return fail(os.ErrNotExist, "its descriptor is not known")
	}
	pidfd, err := unix.PidfdOpen(h.ID.PID, 0)
	if err != nil {
		return fail(os.NewSyscallError("pidfd_open", err), "")
	}
	defer unix.Close(pidfd)
	if now, err := netstate.IdentifyProcess(h.ID.PID); err != nil || now != h.ID {
		return fail(os.ErrProcessDone, "the process is another one now")
	}
	fd, err := unix.PidfdGetfd(pidfd, h.FD, 0)
	if err != nil {
		return fail(os.NewSyscallError("pidfd_getfd", err), whyNoGetfd(err))
	}
	sock, err := newSocket(fd)
	if err != nil {
		unix.Close(fd)
		return fail(err, "")
	}
	if sock.inode != l.Inode || !sock.stream() || !sock.is(unix.SOL_SOCKET, unix.SO_ACCEPTCONN) {
		sock.close()
		return fail(os.ErrNotExist, "the descriptor is no longer that listener")
	}
	if errno := sock.listen(max(int(l.SendQ), enoughBacklog)); errno != 0 {
		sock.close()
		return fail(os.NewSyscallError("listen", errno), "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, &keptSocket{socket: sock, key: sock.key(sock.local())})
	return nil
}

// Len returns the number of sockets.
func (s *Sockets) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// Left returns how many of the sockets no program listens on yet.
func (s *Sockets) Left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := 0
	for _, k := range s.kept {
		if !k.used {
			left++
		}
	}
	return left
}

// Listen makes those listen again that their old server has shut down when it
// ended: all who have the socket share its state.
func (s *Sockets) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		if k.is(unix.SOL_SOCKET, unix.SO_ACCEPTCONN) {
			continue
		}
		if errno := k.listen(enoughBacklog); errno != 0 {
			return os.NewSyscallError("listen", errno)
		}
	}
	return nil
}

// Close lets go of all sockets. Those that a program has got live on in it;
// what clients have queued in the others is reset.
func (s *Sockets) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		k.close()
	}
	s.kept = nil
	return nil
}

// give calls do with the socket that stands in for the one asked for, and
// counts it as given if do succeeds. Of a SO_REUSEPORT group each bind gets the
// next one; a program that binds twice for another reason, such as trying the
// port first, gets the same again. Only the sockets of one user are considered
// unless any is set. It returns false if there is none.
func (s *Sockets) give(asked key, reusePort bool, uid uint32, any bool, do func(*socket) error) (found bool, err error) {
	if s == nil {
		return false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		if k.key != asked || reusePort && k.given || !any && k.uid != uid {
			continue
		}
		if err := do(k.socket); err != nil {
			return true, err
		}
		k.given = true
		return true, nil
	}
	return false, nil
}

// use reports whether the socket is one of these, and counts it as used.
func (s *Sockets) use(inode uint64) bool {
	return s.any(func(k *keptSocket) bool {
		k.used = k.used || k.inode == inode
		return k.inode == inode
	})
}

// serves reports whether one of the sockets has the port.
func (s *Sockets) serves(port uint16) bool {
	return s.any(func(k *keptSocket) bool { return k.key.port == port })
}

func (s *Sockets) any(match func(*keptSocket) bool) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.kept, match)
}

// release closes the sockets that nobody has got and that would refuse a bind
// of the key themselves.
func (s *Sockets) release(asked key) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = slices.DeleteFunc(s.kept, func(k *keptSocket) bool {
		if k.given || !k.key.overlaps(asked) {
			return false
		}
		k.close()
		return true
	})
}

// overlaps errs on the side of yes.
func (k key) overlaps(other key) bool {
	if k.port != other.port || k.netns != other.netns {
		return false
	}
	a, b := k.ip.Unmap(), other.ip.Unmap()
	return a == b || a.IsUnspecified() || b.IsUnspecified() || a == netip.IPv4Unspecified() || b == netip.IPv4Unspecified()
}
