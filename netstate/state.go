package netstate

import "fmt"

// State is the state of a socket, numbered as the Linux kernel numbers it
// (include/net/tcp_states.h), so that a state read from NETLINK_SOCK_DIAG or
// /proc/net/tcp needs no table. Other systems' readers translate.
type State uint8

// The states of RFC 9293 section 3.3.2, and the two that the RFC has no name
// for: NewSynRecv, a connection request that is not a socket yet, and Bound,
// a socket that called bind and never listened or connected.
const (
	Established State = 1
	SynSent     State = 2
	SynRecv     State = 3
	FinWait1    State = 4
	FinWait2    State = 5
	TimeWait    State = 6
	Closed      State = 7
	CloseWait   State = 8
	LastAck     State = 9
	Listen      State = 10
	Closing     State = 11
	NewSynRecv  State = 12
	// Bound is bit 13 of a sock_diag request (TCPF_BOUND_INACTIVE, Linux 6.8).
	// The kernel answers such a socket as state 7; the reader renames it here,
	// because a closed socket that still has a port is exactly a bound one.
	Bound State = 13
	// Unconn is a UDP socket that is bound and has no peer. The kernel uses
	// the number of CLOSED; it is renamed because it is what a UDP server's
	// socket looks like.
	Unconn State = 14
)

// The names are those that ss(8) prints.
var stateNames = [...]string{
	Established: "ESTAB",
	SynSent:     "SYN-SENT",
	SynRecv:     "SYN-RECV",
	FinWait1:    "FIN-WAIT-1",
	FinWait2:    "FIN-WAIT-2",
	TimeWait:    "TIME-WAIT",
	Closed:      "CLOSED",
	CloseWait:   "CLOSE-WAIT",
	LastAck:     "LAST-ACK",
	Listen:      "LISTEN",
	Closing:     "CLOSING",
	NewSynRecv:  "NEW-SYN-RECV",
	Bound:       "BOUND",
	Unconn:      "UNCONN",
}

// String returns the state's name as ss(8) prints it.
func (s State) String() string {
	if int(s) < len(stateNames) && stateNames[s] != "" {
		return stateNames[s]
	}
	return fmt.Sprintf("STATE-%d", uint8(s))
}

// ParseState is the inverse of String. It ignores case and takes "_" for "-",
// so that TIME_WAIT works as well as TIME-WAIT.
func ParseState(name string) (State, error) {
	norm := make([]byte, len(name))
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '_':
			c = '-'
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		norm[i] = c
	}
	for s, n := range stateNames {
		if n != "" && n == string(norm) {
			return State(s), nil
		}
	}
	return 0, fmt.Errorf("no state is called %q: use a name as ss prints it, such as LISTEN or TIME-WAIT", name)
}
