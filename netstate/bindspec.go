package netstate

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// BindSpec is the bind that a server is going to make. Whether a port is free
// has no answer without it: the address, the family and three options each
// change what the kernel says.
type BindSpec struct {
	// Scope is where the bind is made: its protocol and network namespace.
	Scope
	// Addr is unmapped; Family INET6 with an IPv4 Addr is a v4-mapped bind.
	Addr   netip.Addr
	Family Family
	Port   uint16

	ReuseAddr, ReusePort, V6Only bool
	// Device is the interface to bind to (SO_BINDTODEVICE) or 0.
	Device uint32
	// UID is the user that the server runs as: who may share a port by
	// SO_REUSEPORT and who may bind a low one hangs on it.
	UID uint32
}

// DefaultPort is the OpenClaw gateway's.
const DefaultPort = 18789

// NewBindSpec returns the bind of a Node or Go TCP server at addr in the
// network namespace of this process: SO_REUSEADDR set, SO_REUSEPORT not,
// dual-stack if addr is "::".
func NewBindSpec(addr netip.Addr, port uint16) BindSpec {
	spec := BindSpec{Addr: addr.Unmap(), Family: INET, Port: port, ReuseAddr: true, UID: currentUID()}
	if addr.Is6() {
		spec.Family = INET6
		// An explicit bind to a specific IPv6 address is v6only in effect;
		// :: is dual-stack unless the server says otherwise.
		spec.V6Only = !addr.Is4In6() && !addr.IsUnspecified()
	}
	return spec
}

// In returns the same bind in another scope, with the options that servers set
// there: a UDP server sets no SO_REUSEADDR, since for UDP it means to share the
// port and not to ignore what an earlier server has left.
func (b BindSpec) In(scope Scope) BindSpec {
	b.Scope = scope
	b.ReuseAddr = scope.Protocol == TCP
	return b
}

// AddrPort returns the address as one value.
func (b BindSpec) AddrPort() netip.AddrPort { return netip.AddrPortFrom(b.Addr, b.Port) }

// Host returns the address as the server writes it: an IPv4 address that an
// AF_INET6 socket is bound to is "::ffff:127.0.0.1".
func (b BindSpec) Host() string { return b.written().String() }

// String returns "127.0.0.1:18789", "[::1]:18789" or "[::ffff:127.0.0.1]:18789",
// followed by "/udp" and by the network namespace where they are others than
// TCP and this process's own.
func (b BindSpec) String() string {
	text := netip.AddrPortFrom(b.written(), b.Port).String()
	if b.Protocol == UDP {
		text += "/udp"
	}
	if !b.NetNS.Own() {
		text += " in netns " + PlainName(b.NetNS.String())
	}
	return text
}

func (b BindSpec) written() netip.Addr {
	if b.Family == INET6 && b.Addr.Is4() {
		return netip.AddrFrom16(b.Addr.As16())
	}
	return b.Addr
}

// HostError says that a host cannot be bound here. The hint tells what can.
type HostError struct {
	Host   string
	Reason string
	Hint   string
}

func (e *HostError) Error() string { return fmt.Sprintf("host %q %s", e.Host, e.Reason) }

// ParsePort accepts 1–65535 and nothing else. Port 0 is refused, because it
// means "any port" and can never be in use.
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("port %q is not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

// ResolveHost turns what a person writes into the address that a server would
// bind: an IP address, "loopback" (or nothing) for 127.0.0.1, "any" for
// 0.0.0.0, the name of an interface for its first address, or a host name
// that resolves to an address of this machine. It returns a *HostError for a
// name that does not resolve or an address that is not local.
func ResolveHost(ctx context.Context, host string) (netip.Addr, error) {
	switch host {
	case "", "loopback":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
	case "any", "*":
		return netip.IPv4Unspecified(), nil
	}
	if addr, err := netip.ParseAddr(trimBrackets(host)); err == nil {
		// Whether the address is local is left to bind itself: a refused
		// EADDRNOTAVAIL is the kernel's word, an interface list is not
		// (ip_nonlocal_bind, 127.0.0.0/8, local routes).
		return addr, nil
	}
	if ifi, err := net.InterfaceByName(host); err == nil {
		return interfaceAddr(ifi)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, &HostError{Host: host, Reason: "does not resolve to an address and is not an interface", Hint: "give an address of this machine, loopback, any, or an interface's name"}
	}
	for _, a := range addrs {
		if a = a.Unmap(); isLocal(a) {
			return a, nil
		}
	}
	return netip.Addr{}, &HostError{Host: host, Reason: fmt.Sprintf("resolves to %s, which is not an address of this machine", addrs[0].Unmap()), Hint: "a server can only bind an address of its own machine"}
}

func trimBrackets(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}

func interfaceAddr(ifi *net.Interface) (netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, &HostError{Host: ifi.Name, Reason: "is an interface whose addresses cannot be read: " + err.Error()}
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addr := p.Addr()
			if addr.Is6() && addr.IsLinkLocalUnicast() {
				addr = addr.WithZone(ifi.Name)
			}
			return addr.Unmap(), nil
		}
	}
	return netip.Addr{}, &HostError{Host: ifi.Name, Reason: "is an interface without an address", Hint: "bring it up or name an address"}
}

func isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == addr {
			return true
		}
	}
	return false
}
