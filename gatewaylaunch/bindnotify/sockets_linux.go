//go:build amd64 || arm64

package bindnotify

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/netns"
)

// enoughBacklog is the least length of the queue of a socket that is handed
// over: nobody accepts while the one server stops and the next one starts, and
// what does not fit is tried again by the client's kernel only after a second.
const enoughBacklog = 4096

// Sockets are listening sockets that are kept open from one server to the
// next. What clients have queued in them waits there. The zero value is empty.
type Sockets struct {
	mu   sync.Mutex
	kept []*keptSocket
}

// keptSocket is a listener of an old server.
type keptSocket struct {
	*socket
	key    key
	space  netns.Namespace
	shares bool // it had SO_REUSEPORT from the beginning

	// next is its successor, nil where it has none.
	next    *socket
	steered bool            // next listens, and its group's connections go to the first of it
	young   map[remote]bool // whose handshake had begun before that
	left    bool            // its server has ended, and it is closed here
	asks    bool            // the new server wants SO_REUSEPORT itself

	// given: a program has got what stands in for it; used: and has called
	// listen on it.
	given, used bool
}

// heir is what a program gets in its place.
func (k *keptSocket) heir() *socket {
	if k.next != nil {
		return k.next
	}
	return k.socket
}

// end closes all that is open here. Whoever shares the address with the new
// server from now on needs its consent again.
func (k *keptSocket) end() {
	if k.next != nil {
		if k.left && !k.asks {
			k.next.turn(reusePort, false)
		}
		k.next.close()
	}
	if !k.left {
		k.close()
	}
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
	space, err := spaceOf(h.ID.PID, sock.netns)
	if err != nil {
		sock.close()
		return fail(err, "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, &keptSocket{socket: sock, key: sock.key(sock.local()), space: space,
		shares: sock.is(unix.SOL_SOCKET, unix.SO_REUSEPORT)})
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
// ended: all who have the socket share its state. A successor is its own.
func (s *Sockets) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		if k.next != nil || k.is(unix.SOL_SOCKET, unix.SO_ACCEPTCONN) {
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
		k.end()
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
		if err := do(k.heir()); err != nil {
			return true, err
		}
		k.given, k.asks = true, k.asks || reusePort
		return true, nil
	}
	return false, nil
}

// use makes the socket listen if it is one of these, and counts it as used.
func (s *Sockets) use(inode uint64, backlog int) (found bool, errno unix.Errno) {
	if s == nil {
		return false, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		if k.heir().inode == inode {
			errors.As(s.listen(k, max(backlog, enoughBacklog)), &errno)
			k.used = k.used || errno == 0
			return true, errno
		}
	}
	return false, 0
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
		k.lend(false)
		k.end()
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
