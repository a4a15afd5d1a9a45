package netstate

import (
	"net/netip"
	"time"
)

// Family is the address family that a socket was created with. It is kept
// apart from the address because an AF_INET6 socket can hold an IPv4 address
// (v4-mapped), and bind treats it differently from an AF_INET socket.
type Family uint8

// The two families that TCP knows.
const (
	INET  Family = 4
	INET6 Family = 6
)

// String returns "inet" or "inet6".
func (f Family) String() string {
	if f == INET6 {
		return "inet6"
	}
	return "inet"
}

// Tri is a fact that may not be known: the kernel shows SO_REUSEADDR of no
// socket to anyone who asks politely. The zero value is Unknown.
type Tri int8

// The three values of a Tri.
const (
	Unknown Tri = 0
	Yes     Tri = 1
	No      Tri = -1
)

// TriOf returns Yes for true and No for false.
func TriOf(b bool) Tri {
	if b {
		return Yes
	}
	return No
}

// String returns "yes", "no" or "unknown".
func (t Tri) String() string {
	switch t {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "unknown"
}

// Timer is the kind of timer that runs on a socket (idiag_timer of sock_diag).
type Timer uint8

// The timers as NETLINK_SOCK_DIAG numbers them.
const (
	TimerNone       Timer = 0
	TimerRetransmit Timer = 1
	TimerKeepalive  Timer = 2
	// TimerTimeWait runs on a TIME-WAIT minisocket, and on a FIN-WAIT-2 one
	// after its process closed it.
	TimerTimeWait Timer = 3
	TimerProbe    Timer = 4
)

// FlagsFrom says how a socket's SO_REUSEADDR and SO_REUSEPORT were learnt.
type FlagsFrom string

// The ways of learning the flags.
const (
	FlagsUnknown    FlagsFrom = ""
	FlagsGetsockopt FlagsFrom = "getsockopt" // a duplicate of the descriptor (pidfd_getfd) was asked
	FlagsBPF        FlagsFrom = "bpf"        // read in the kernel by a BPF iterator
	FlagsBind       FlagsFrom = "bind"       // some of them follow from how binds went that hang on them
)

// Socket is one TCP or UDP socket as the system's table showed it at Snapshot.At.
// A zero number in Inode, Cookie or PID means that the table did not tell.
type Socket struct {
	// Local and Remote hold IPv4 addresses unmapped: an IPv4 connection of a
	// dual-stack server has Family INET6 and an IPv4 Local. Remote is invalid
	// for sockets without a peer.
	Local, Remote netip.AddrPort
	Family        Family
	State         State

	// Timer runs on the socket and had Expires left at Snapshot.At.
	Timer   Timer
	Expires time.Duration

	// V6Only is IPV6_V6ONLY, told by the kernel for LISTEN and BOUND only.
	// ReuseAddr and ReusePort are the options that decide most binds; the
	// table never shows them, so they are Unknown until something else does.
	V6Only, ReuseAddr, ReusePort Tri
	FlagsFrom                    FlagsFrom

	// UID owns the socket. It is valid only if UIDKnown: a TIME-WAIT socket
	// is listed with uid 0 and belongs to nobody.
	UID      uint32
	UIDKnown bool

	// Inode names the open socket, the same in every process that shares it.
	// It is 0 for sockets that no process owns: TIME-WAIT, orphans, and
	// connections that nobody has accepted yet.
	Inode uint64
	// Cookie names the socket for the lifetime of the system, so that an
	// action on it can never hit a later one.
	Cookie uint64
	// PID is set by tables that list a process instead of an inode.
	PID int
	// Device is the index of the interface that the socket is bound to, or 0.
	Device uint32

	// RecvQ of a LISTEN socket is the number of connections that wait to be
	// accepted and SendQ the limit; otherwise they are bytes.
	RecvQ, SendQ uint32
}

// Owned reports whether a process has the socket open. An unowned socket ends
// by itself or with its peer; no signal can help. A listener and a bound
// socket always belong to a process, also where the table does not say which.
func (s *Socket) Owned() bool {
	return s.Inode != 0 || s.PID != 0 || s.Serving()
}

// Serving reports whether the socket is one that no connection made: it
// listens, or is bound, or is a UDP socket without a peer.
func (s *Socket) Serving() bool {
	return s.State == Listen || s.State == Bound || s.State == Unconn
}

// Lingering reports whether the socket is one that only the kernel holds:
// TIME-WAIT, or a closing connection whose process has closed it already.
func (s *Socket) Lingering() bool {
	switch s.State {
	case TimeWait:
		return true
	case FinWait1, FinWait2, LastAck, Closing:
		return !s.Owned()
	}
	return false
}
