//go:build amd64 || arm64

package bindnotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/netns"
	"berth/netstate/sockdiag"
)

// A successor is a socket of this process in the SO_REUSEPORT group of an old
// server's listener, to which all new connections go as soon as it listens.
// With a socket that both servers have, nobody can keep the old one from
// accepting until its last instant, and from dropping what it has accepted.
// With a successor its queue runs dry before it is asked to end.
//
// Of n listeners that an old server has at one address, each gets a successor,
// and a program in the group (SO_ATTACH_REUSEPORT_CBPF) answers "number n" for
// every SYN: the first successor. The kernel fills the place of one that leaves
// with the last of the group, so number n stays the same socket until the last
// old one has left, whatever their order; from then on number n does not exist,
// and the kernel chooses among those that are there.

// The options that golang.org/x/sys has no names for on every architecture.
var reusePort, reuseAddr = option{unix.SOL_SOCKET, unix.SO_REUSEPORT, 4}, option{unix.SOL_SOCKET, unix.SO_REUSEADDR, 4}

// Succeed makes a successor for each of the sockets, bound and not listening:
// programs are given these from now on. An error means that the sockets
// themselves are given instead, which the old server goes on sharing.
func (s *Sockets) Succeed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.alone()
	for _, k := range s.kept {
		if err == nil {
			err = k.succeed()
		}
	}
	if err != nil {
		for _, k := range s.kept {
			k.withdraw()
		}
	}
	return err
}

// steeredAt reports whether the new connections of the address go to a
// successor.
func (s *Sockets) steeredAt(at key) bool {
	return slices.ContainsFunc(s.kept, func(k *keptSocket) bool { return k.key == at && k.steered })
}

// alone fails if listeners of somebody else share an address with these: a
// successor would take their connections, too.
func (s *Sockets) alone() error {
	listeners := map[key]int{}
	for _, k := range s.kept {
		listeners[k.key]++
	}
	for _, k := range s.kept {
		found := 0
		err := k.visit(sockdiag.StateListen, func(r *sockdiag.Record) {
			if int(r.Family) == k.domain && sameIP(r, k) && r.Interface == k.device() {
				found++
			}
		})
		if err != nil {
			return &Error{Op: "look who shares the port", Err: err}
		}
		if found != listeners[k.key] {
			return &Error{Op: "make a second socket", Err: unix.EADDRINUSE, Why: "another listener that stays shares the address"}
		}
	}
	return nil
}

func sameIP(r *sockdiag.Record, k *keptSocket) bool {
	want := k.key.ip.AsSlice()
	return string(r.Local[:len(want)]) == string(want)
}

// visit calls do for the sockets of the port in these states.
func (k *keptSocket) visit(states uint32, do func(*sockdiag.Record)) error {
	return k.space.Do(func() error {
		c, err := sockdiag.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Dump(sockdiag.Query{States: states, Port: k.key.port}, func(r *sockdiag.Record) bool {
			do(r)
			return true
		})
	})
}

func (s *socket) device() uint32 {
	n, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// succeed makes the successor of one socket.
func (k *keptSocket) succeed() error {
	op := fmt.Sprintf("make a second socket of %s", k.key.addrPort())
	var fd int
	// Plain TCP also for MPTCP, whose clients cannot tell.
	err := k.space.Do(func() (err error) {
		fd, err = socketOf(k.uid, k.domain)
		return err
	})
	if err != nil {
		return &Error{Op: op, Err: err}
	}
	next, err := newSocket(fd)
	if err == nil && next.uid != k.uid {
		err = unix.EPERM // the kernel lets no other user into the group
	}
	if err != nil {
		unix.Close(fd)
		return &Error{Op: op, Err: err}
	}
	next.carry(k.socket)
	next.turn(reuseAddr, true)
	next.turn(reusePort, true)
	if k.domain == unix.AF_INET6 {
		next.turn(option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 4}, k.v6Only())
	}
	if device := k.device(); device != 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, int(device))
	}
	if err == nil {
		k.lend(true)
		err = os.NewSyscallError("bind", unix.Bind(fd, k.local().sockaddr()))
		k.lend(false)
	}
	if err != nil {
		next.close()
		why := ""
		if errors.Is(err, unix.EADDRINUSE) {
			why = "a socket without SO_REUSEADDR is in the way"
		}
		return &Error{Op: op, Err: err, Why: why}
	}
	k.next = next
	return nil
}

// socketOf makes a socket that belongs to the user. That is the fsuid of the
// thread which makes it, and nothing else of the program changes.
func socketOf(uid uint32, domain int) (fd int, err error) {
	open := func() (int, error) {
		fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		return fd, os.NewSyscallError("socket", err)
	}
	if unix.Geteuid() == int(uid) {
		return open()
	}
	runtime.LockOSThread()
	dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	was, _ := unix.SetfsuidRetUid(int(uid)) // it tells the old one, also when it fails
	fd, err = open()
	_, _ = unix.SetfsuidRetUid(was)
	if dumpable == 1 {
		// The change has made the whole process undumpable, which hides it from
		// its own user's other tools.
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}
	if now, _ := unix.SetfsuidRetUid(-1); now == was {
		runtime.UnlockOSThread()
	}
	return fd, err
}

// lend gives the old socket the option by which another one may share its
// address, for as long as it takes, and takes it away again.
func (k *keptSocket) lend(on bool) {
	if !k.shares {
		k.turn(reusePort, on)
	}
}

func (k *keptSocket) withdraw() {
	if k.next == nil {
		return
	}
	k.next.close()
	k.next, k.steered = nil, false
	k.lend(false)
}

// Steer makes the successors listen, so that all new connections wait in them.
func (s *Sockets) Steer() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		if err := s.listen(k, enoughBacklog); err != nil {
			return err
		}
	}
	return nil
}

// listen makes the socket that stands in for k listen, and the first one of an
// address get all new connections of it.
func (s *Sockets) listen(k *keptSocket, backlog int) error {
	if k.next == nil {
		return errnoError("listen", k.listen(backlog))
	}
	group, first := 0, !s.steeredAt(k.key)
	for _, other := range s.kept {
		if other.key == k.key {
			group++
			if !other.left {
				other.lend(true)
			}
		}
	}
	// The kernel looks again whether the address may be shared. The new server
	// may have no wish for the option, which it would need alone just as little.
	asked := k.next.is(reuseAddr.level, reuseAddr.name)
	k.next.turn(reuseAddr, true)
	err := errnoError("listen", k.next.listen(backlog))
	k.next.turn(reuseAddr, asked)
	if err != nil || k.steered {
		return err
	}
	if first {
		err = k.next.attach(group)
		// Those that were in the middle of a handshake belong to the old one.
		k.young = map[remote]bool{}
		_ = k.visit(stateSynRecv, func(r *sockdiag.Record) { k.young[remoteOf(r)] = true })
	}
	k.steered = err == nil
	return err
}

func errnoError(call string, errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return os.NewSyscallError(call, errno)
}

// attach sends every new connection of the group to its socket of that number.
func (s *socket) attach(number int) error {
	filter := [1]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(number)}}
	prog := unix.SockFprog{Len: 1, Filter: &filter[0]}
	return os.NewSyscallError("setsockopt SO_ATTACH_REUSEPORT_CBPF",
		unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &prog))
}

// Succeeded reports whether the sockets have successors.
func (s *Sockets) Succeeded() bool { return s.any(func(k *keptSocket) bool { return k.next != nil }) }

// stateSynRecv is the bit that asks for handshakes that are not complete.
const stateSynRecv = 1 << 3

// remote is the other end of a connection to the port.
type remote struct {
	ip   [16]byte
	port uint16
}

func remoteOf(r *sockdiag.Record) remote { return remote{r.Remote, r.RemotePort} }

// queued returns how many connections the old server is still to accept. A
// handshake is followed until it is complete, or given up.
func (k *keptSocket) queued() int {
	if len(k.young) > 0 {
		still := map[remote]bool{}
		_ = k.visit(stateSynRecv, func(r *sockdiag.Record) {
			if at := remoteOf(r); k.young[at] {
				still[at] = true
			}
		})
		k.young = still
	}
	// Of a listener this is the length of its queue (tcp_get_info).
	info, err := unix.GetsockoptTCPInfo(k.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != stateListen {
		return len(k.young)
	}
	return len(k.young) + int(info.Unacked)
}

// queued returns how many connections are queued where no new ones come.
func (s *Sockets) queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, k := range s.kept {
		if s.steeredAt(k.key) {
			n += k.queued()
		}
	}
	return n
}

const stateListen = 10 // include/net/tcp_states.h

// Leave lets go of the old sockets once their server has ended, and takes the
// program out of the group, where it would choose among those who join later.
// Sockets without a successor stay.
func (s *Sockets) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		if k.next != nil && !k.left {
			k.close()
			k.left = true
		}
	}
	for _, k := range s.kept {
		if k.next != nil {
			_ = unix.SetsockoptInt(k.next.fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0) // the first of a group does it
		}
	}
}

// Withdraw closes the successors, and the old server, which must not have been
// asked to end, gets all new connections again. What clients have queued in a
// successor is reset.
func (s *Sockets) Withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept {
		k.withdraw()
	}
}

// quietMost bounds the wait for a moment in which no answer is owed; after it,
// somebody's request is cut off, as it would be without the wait. While the new
// server serves already, nobody waits for the end of it.
const (
	quietMost       = time.Second
	quietMostBeside = 5 * time.Second
	// drainMost bounds the wait for a server that accepts slowly, and would
	// reset all that is left in its queue.
	drainMost = 20 * time.Second
	// lookEvery is how often that is looked at. No event tells of an answer that
	// another process has given; a look costs some 100 µs.
	lookEvery = 500 * time.Microsecond
)

// Drain waits until the old server, which gets no new connections any more, has
// accepted those that it had and owes no answer on any: twice in a row, since a
// connection is nowhere to be seen while it is being accepted. It gives up when
// the queue has not become shorter for a second, or for five if another server
// serves beside it.
func (s *Sockets) Drain(ctx context.Context, holders []netstate.Holder, beside bool) error {
	p := &pause{sockets: s}
	defer p.close()
	if err := p.hold(holders); err != nil {
		return nil // then it is done without
	}
	most := quietMost
	if beside {
		most = quietMostBeside
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	quiet, least := 0, s.queued()
	began := time.Now()
	for deadline := began.Add(most); quiet < 2 && time.Now().Before(deadline); {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		n := s.queued()
		if n < least && time.Since(began) < drainMost {
			least, deadline = n, time.Now().Add(most)
		}
		if quiet++; n > 0 || p.busy() {
			quiet = 0
		}
	}
	return ctx.Err()
}

// spaceOf finds the network namespace of a process's socket.
func spaceOf(pid int, cookie uint64) (netns.Namespace, error) {
	if cookie == ownNetNS() {
		return netns.Namespace{}, nil
	}
	return netns.Find(context.Background(), strconv.Itoa(pid))
}
