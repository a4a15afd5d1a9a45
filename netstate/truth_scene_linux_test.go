package netstate_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"berth/netstate"
)

// places are the addresses that sockets are bound to. 127.0.0.2 stands for a
// second address of the machine, which lo has without being told.
var places = []struct {
	addr   string
	v6only bool
}{
	{"127.0.0.1", false}, {"127.0.0.2", false}, {"0.0.0.0", false},
	{"::1", true}, {"::", false}, {"::", true},
	{"::ffff:127.0.0.1", false}, {"::ffff:0.0.0.0", false},
}

// What a holder is. A server's connections are brought into a state of their
// own each.
const (
	kindBound  = "bound"
	kindServer = "server"
	kindClient = "client"
)

// fates of the socket that was bound.
var fates = []string{"kept", "kept", "kept", "kept", "closed", "shut down", "inherited", "in flight"}

// connStates are what a server's connection comes to; "unaccepted" and
// "syn-recv" are decided before the server accepts it.
var connStates = []string{
	"accepted", "accepted", "unaccepted", "unaccepted", "syn-recv", "in flight", "close-wait",
	"time-wait", "time-wait", "time-wait", "fin-wait-2", "orphan fin-wait-2", "orphan fin-wait-1", "orphan closing", "orphan last-ack",
}

var clientStates = []string{"syn-sent", "established", "established", "in flight", "time-wait", "time-wait", "orphan fin-wait-2"}

type option struct{ reuseAddr, reusePort bool }

type holderPlan struct {
	kind   string
	place  int
	opt    option
	late   *option // options set after the bind
	device bool
	other  bool     // made as another user (SO_REUSEPORT compares users)
	conns  []string // of a server, or the one of a client
	fate   string
	// elsewhere: made in another network namespace, where it is in nobody's way
	elsewhere bool
}

func (h holderPlan) String() string {
	s := fmt.Sprintf("%s at %s", h.kind, places[h.place].addr)
	if places[h.place].v6only {
		s += " (v6only)"
	}
	s += fmt.Sprintf(" %+v", h.opt)
	if h.late != nil {
		s += fmt.Sprintf(", later %+v", *h.late)
	}
	if h.device {
		s += ", on lo"
	}
	if h.other {
		s += ", of another user"
	}
	if h.elsewhere {
		s += ", in another namespace"
	}
	return fmt.Sprintf("%s, %s: %s", s, h.fate, strings.Join(h.conns, ", "))
}

func randomHolder(rng *rand.Rand) holderPlan {
	pick := func(from []string) string { return from[rng.IntN(len(from))] }
	h := holderPlan{
		kind:   []string{kindBound, kindServer, kindServer, kindServer, kindServer, kindServer, kindServer, kindClient, kindClient}[rng.IntN(9)],
		place:  rng.IntN(len(places)),
		opt:    option{rng.IntN(2) == 0, rng.IntN(3) == 0},
		device: rng.IntN(8) == 0,
		other:  rng.IntN(4) == 0,
		fate:   pick(fates),
	}
	if rng.IntN(5) == 0 {
		h.late = &option{rng.IntN(2) == 0, rng.IntN(2) == 0}
	}
	switch h.kind {
	case kindServer:
		for range []int{0, 1, 1, 1, 1, 2, 3}[rng.IntN(7)] {
			h.conns = append(h.conns, pick(connStates))
		}
	case kindClient:
		h.conns = []string{pick(clientStates)}
		h.fate = "kept"
	}
	return h
}

// scene is everything that one case makes, so that it can be closed, and what
// it knows of it without asking the engine.
type scene struct {
	port     uint16
	fds      []int
	children []*exec.Cmd
	mails    []int // ends of socket pairs that hold a socket in flight
	// byCookie and byPeer hold the true options of the sockets on the port. A
	// connection that nobody has accepted has no descriptor to ask for its
	// cookie, and is known by its client's address.
	byCookie map[uint64]truth
	byPeer   map[netip.AddrPort]truth
}

func newScene(port uint16) *scene {
	return &scene{port: port, byCookie: map[uint64]truth{}, byPeer: map[netip.AddrPort]truth{}}
}

// truth is what decides a bind and the kernel's table does not show.
type truth struct {
	reuseAddr, reusePort, v6only bool
	uid                          uint32
}

func readTruth(fd int) (truth, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	get := func(level, name int) bool {
		v, e := unix.GetsockoptInt(fd, level, name)
		err = errors.Join(err, e)
		return v != 0
	}
	t := truth{uid: st.Uid, reuseAddr: get(unix.SOL_SOCKET, unix.SO_REUSEADDR), reusePort: get(unix.SOL_SOCKET, unix.SO_REUSEPORT)}
	if domain, e := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); e == nil && domain == unix.AF_INET6 {
		t.v6only = get(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	}
	return t, err
}

// note remembers the truth about a socket; it is the last thing done with it
// before it is closed or left as it is.
func (s *scene) note(fd int) error {
	t, err := readTruth(fd)
	cookie, e := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	s.byCookie[cookie] = t
	return errors.Join(err, e)
}

// settle learns the truth about connections that nobody has accepted, which
// only accepting them tells: of several listeners any may have got one. It
// ends the scene as the engine saw it.
func (s *scene) settle() {
	for _, m := range s.mails {
		var p [1]byte
		oob := make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := unix.Recvmsg(m, p[:], oob, unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			continue
		}
		messages, _ := unix.ParseSocketControlMessage(oob[:n])
		for i := range messages {
			fds, _ := unix.ParseUnixRights(&messages[i])
			s.fds = append(s.fds, fds...)
		}
	}
	for _, fd := range slices.Clone(s.fds) {
		if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || v == 0 {
			continue
		}
		listener, err := readTruth(fd)
		if err != nil {
			continue
		}
		unix.SetNonblock(fd, true)
		for {
			child, peer, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err != nil {
				break
			}
			s.keep(child)
			if t, err := readTruth(child); err == nil {
				t.uid = listener.uid // accepting has given it to us
				s.byPeer[fromSockaddr(peer)] = t
			}
		}
	}
}

func (s *scene) truthOf(sock *netstate.Socket) (truth, bool) {
	t, ok := s.byCookie[sock.Cookie]
	if !ok {
		t, ok = s.byPeer[sock.Remote]
	}
	return t, ok
}

// close takes everything away, and resets what would stay.
func (s *scene) close() {
	for _, fd := range s.fds {
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(fd)
	}
	for _, m := range s.mails {
		unix.Close(m)
	}
	for _, c := range s.children {
		c.Process.Kill()
		c.Wait()
	}
}

func (s *scene) keep(fd int) int {
	s.fds = append(s.fds, fd)
	return fd
}

func (s *scene) closeOne(fd int) {
	unix.Close(fd)
	if i := slices.Index(s.fds, fd); i >= 0 {
		s.fds = slices.Delete(s.fds, i, i+1)
	}
}

// post puts a socket in flight: a message that nobody has read holds it, and
// no process.
func (s *scene) post(fd int) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.mails = append(s.mails, pair[0])
	if err := unix.Sendmsg(pair[1], []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		unix.Close(pair[1])
		return err
	}
	unix.Close(pair[1])
	s.closeOne(fd)
	return nil
}

// bequeath leaves a socket to a child process alone. A copy in flight, which
// is invisible, lets settle have it back.
func (s *scene) bequeath(fd int) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(dup), "inherited")
	defer file.Close()
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.children = append(s.children, cmd)
	return s.post(fd)
}

func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func sockaddr(addr netip.Addr, port uint16) unix.Sockaddr {
	if addr.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: addr.As4()}
	}
	return &unix.SockaddrInet6{Port: int(port), Addr: addr.As16()}
}

func familyOf(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// newSocket bounds every wait, since a client may reach another listener of
// the scene than the one that then waits for it.
func (s *scene) newSocket(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	s.keep(fd)
	tv := unix.Timeval{Usec: 20_000}
	return fd, errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv),
	)
}

func setOption(fd int, o option) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, btoi(o.reuseAddr)),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, btoi(o.reusePort)),
	)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// bindAt makes a socket as the plan says and binds it to the port.
func (s *scene) bindAt(h holderPlan) (int, error) {
	p := places[h.place]
	addr := netip.MustParseAddr(p.addr)
	if h.other && os.Geteuid() == 0 {
		// The user of a socket is the file system user at its creation, and
		// that belongs to the thread, which the case has locked.
		unix.Setfsuid(65534)
		defer unix.Setfsuid(0)
	}
	fd, err := s.newSocket(familyOf(addr))
	if err != nil {
		return -1, err
	}
	if err := setOption(fd, h.opt); err != nil {
		return -1, err
	}
	if addr.Is6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, btoi(p.v6only)); err != nil {
			return -1, err
		}
	}
	if h.device {
		if err := unix.BindToDevice(fd, "lo"); err != nil {
			return -1, err
		}
	}
	return fd, unix.Bind(fd, sockaddr(addr, s.port))
}

// target is an address at which a client reaches a socket bound to the place.
func target(place int, rng *rand.Rand) netip.Addr {
	v4 := netip.MustParseAddr("127.0.0.1")
	switch p := places[place]; p.addr {
	case "127.0.0.2":
		return netip.MustParseAddr("127.0.0.2")
	case "0.0.0.0", "::ffff:0.0.0.0":
		if rng.IntN(4) == 0 {
			return netip.MustParseAddr("127.0.0.2")
		}
	case "::":
		if p.v6only || rng.IntN(2) == 0 {
			return netip.IPv6Loopback()
		}
	case "::1":
		return netip.IPv6Loopback()
	}
	return v4
}

func (s *scene) dial(to netip.AddrPort) (int, error) {
	fd, err := s.newSocket(familyOf(to.Addr()))
	if err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, sockaddr(to.Addr(), to.Port()))
}

// drop takes a client's end out of the scene, and its server's end with it.
func (s *scene) drop(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	s.closeOne(fd)
}

// build makes one holder. An error means that the scene does not allow it,
// such as two listeners at one address; the case goes on with what there is.
func (s *scene) build(h holderPlan, rng *rand.Rand) error {
	if h.kind == kindClient {
		return s.buildClient(h, rng)
	}
	fd, err := s.bindAt(h)
	if err != nil {
		if fd >= 0 {
			s.closeOne(fd)
		}
		return err
	}
	if h.kind == kindServer {
		if slices.Contains(h.conns, "syn-recv") {
			// The handshake is finished when the client sends something.
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60)
		}
		if err := unix.Listen(fd, 8); err != nil {
			return errors.Join(err, s.note(fd))
		}
		for _, state := range h.conns {
			err = errors.Join(err, s.connection(fd, h, state, rng))
		}
	}
	return errors.Join(err, s.setLate(fd, h), s.note(fd), s.fate(fd, h))
}

func (s *scene) fate(fd int, h holderPlan) error {
	switch h.fate {
	case "closed":
		s.closeOne(fd)
	case "shut down":
		return unix.Shutdown(fd, unix.SHUT_RD)
	case "inherited":
		return s.bequeath(fd)
	case "in flight":
		return s.post(fd)
	}
	return nil
}

// connection makes one connection of a server.
func (s *scene) connection(listener int, h holderPlan, state string, rng *rand.Rand) error {
	c, err := s.dial(netip.AddrPortFrom(target(h.place, rng), s.port))
	if err != nil {
		s.drop(c)
		return err
	}
	name, err := unix.Getsockname(c)
	if err != nil {
		return err
	}
	switch state {
	case "unaccepted":
		if slices.Contains(h.conns, "syn-recv") {
			_, err = unix.Write(c, []byte{0})
		}
		return err
	case "syn-recv":
		return nil
	}
	if slices.Contains(h.conns, "syn-recv") {
		if _, err := unix.Write(c, []byte{0}); err != nil {
			return err
		}
	}
	child, peer, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		s.drop(c) // another listener of the scene has the connection
		return err
	}
	s.keep(child)
	if fromSockaddr(peer) != fromSockaddr(name) {
		return errors.Join(errors.New("another connection was first in the queue"), s.note(child))
	}
	var one [1]byte
	if slices.Contains(h.conns, "syn-recv") {
		unix.Read(child, one[:])
	}
	if err := errors.Join(s.setLate(child, h), s.note(child)); err != nil {
		return err
	}
	return s.bring(child, c, state)
}

// bring changes the state of one end of a connection.
func (s *scene) bring(end, peer int, state string) error {
	var one [1]byte
	switch state {
	case "in flight":
		return s.post(end)
	case "close-wait":
		unix.Shutdown(peer, unix.SHUT_WR)
		unix.Read(end, one[:])
	case "fin-wait-2", "orphan fin-wait-2":
		unix.Shutdown(end, unix.SHUT_WR)
		unix.Read(peer, one[:])
		if state == "orphan fin-wait-2" {
			s.closeOne(end)
		}
		// The FIN is acknowledged late, which would change the state under the
		// engine's eyes.
		return unix.SetsockoptInt(peer, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	case "time-wait":
		s.closeOne(end)
		unix.Read(peer, one[:])
		s.closeOne(peer)
	case "orphan fin-wait-1", "orphan closing", "orphan last-ack":
		// The FIN waits behind data that the peer does not read.
		if err := stuff(end, peer); err != nil {
			return err
		}
		if state == "orphan last-ack" {
			unix.Shutdown(peer, unix.SHUT_WR)
			unix.Read(end, one[:])
		}
		s.closeOne(end)
		if state == "orphan closing" {
			unix.Shutdown(peer, unix.SHUT_WR)
		}
	}
	return nil
}

// stuff writes more than the peer's window, which is at most 64 KiB before it
// has read anything.
func stuff(end, peer int) error {
	if err := errors.Join(
		unix.SetsockoptInt(peer, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096),
		unix.SetsockoptInt(end, unix.SOL_SOCKET, unix.SO_SNDBUF, 192<<10),
		unix.SetNonblock(end, true),
	); err != nil {
		return err
	}
	chunk := make([]byte, 64<<10)
	for {
		_, err := unix.Write(end, chunk)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return unix.SetNonblock(end, false)
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

// buildClient puts the client's end of a connection on the port.
func (s *scene) buildClient(h holderPlan, rng *rand.Rand) error {
	to := target(h.place, rng)
	if p := places[h.place].addr; strings.HasPrefix(p, "::ffff:") {
		to = netip.AddrFrom16(to.As16())
	}
	ln, err := s.newSocket(familyOf(to))
	if err != nil {
		return err
	}
	if err := unix.Bind(ln, sockaddr(to, 0)); err != nil {
		return err
	}
	state := h.conns[0]
	backlog := 8
	if state == "syn-sent" {
		backlog = 0 // holds one connection; a further SYN is dropped
	}
	if err := unix.Listen(ln, backlog); err != nil {
		return err
	}
	sa, err := unix.Getsockname(ln)
	if err != nil {
		return err
	}
	if state == "syn-sent" {
		filler, err := s.newSocket(familyOf(to))
		if err != nil {
			return err
		}
		if err := unix.Connect(filler, sa); err != nil {
			return err
		}
	}
	fd, err := s.bindAt(h)
	if err != nil {
		if fd >= 0 {
			s.closeOne(fd)
		}
		return err
	}
	if err := s.note(fd); err != nil {
		return err
	}
	if state == "syn-sent" {
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
		if err := unix.Connect(fd, sa); !errors.Is(err, unix.EINPROGRESS) {
			return err
		}
		return errors.Join(s.setLate(fd, h), s.note(fd))
	}
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	if err := errors.Join(s.setLate(fd, h), s.note(fd)); err != nil {
		return err
	}
	peer, _, err := unix.Accept4(ln, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	return s.bring(fd, s.keep(peer), state)
}

func (s *scene) setLate(fd int, h holderPlan) error {
	if h.late == nil {
		return nil
	}
	return setOption(fd, *h.late)
}
