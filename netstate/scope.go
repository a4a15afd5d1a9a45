package netstate

import (
	"berth/netstate/netns"
)

// Protocol is the transport protocol of a socket. TCP and UDP have ports of
// their own each: a socket of one never refuses a bind of the other.
type Protocol uint8

// The protocols that berth knows. TCP is the zero value.
const (
	TCP Protocol = iota
	UDP
)

// String returns "tcp" or "udp".
func (p Protocol) String() string {
	if p == UDP {
		return "udp"
	}
	return "tcp"
}

// Scope is the set of sockets that a bind can meet at all: those of its
// protocol in its network namespace. The zero value is TCP in the namespace of
// this process.
type Scope struct {
	Protocol Protocol
	NetNS    netns.Namespace
}
