package netstatetest

import (
	"net/netip"
	"syscall"

	"berth/netstate"
)

// refusal is the answer of bind, or 0, in the kernel's order: the address, the
// right to the port, the conflicts. The machine has the loopback addresses
// only, and its ports below 1024 are root's.
//
// The rules are written a second time here, in other terms than
// netstate.Conflict, so that a mistake there is not made here as well; a test
// compares the two.
func refusal(b netstate.BindSpec, table []*entry) syscall.Errno {
	switch {
	case !b.Addr.IsLoopback() && !b.Addr.IsUnspecified():
		return syscall.EADDRNOTAVAIL
	case b.Port < 1024 && b.UID != 0:
		return syscall.EACCES
	}
	for _, e := range table {
		if blocks(&e.Socket, b) {
			return syscall.EADDRINUSE
		}
	}
	return 0
}

// blocks reports whether socket h refuses the bind b.
func blocks(h *netstate.Socket, b netstate.BindSpec) bool {
	request := h.State == netstate.NewSynRecv || h.State == netstate.SynRecv && h.Inode == 0
	if request || h.Local.Port() != b.Port {
		return false
	}
	if h.Device != b.Device && h.Device != 0 && b.Device != 0 {
		return false
	}
	if b.ReuseAddr && h.ReuseAddr == netstate.Yes && h.State != netstate.Listen {
		return false
	}
	record := h.Timer == netstate.TimerTimeWait || h.State == netstate.TimeWait
	if b.ReusePort && h.ReusePort == netstate.Yes && (record || h.UIDKnown && h.UID == b.UID) {
		return false
	}
	dual := h.Family == netstate.INET6 && h.V6Only != netstate.Yes
	if b.Family == netstate.INET && b.Addr == netip.IPv4Unspecified() && dual {
		return true // even where h has a specific IPv6 address
	}
	mine, theirs := reach(b.Addr, !b.V6Only), reach(h.Local.Addr(), dual)
	return mine.v4.meets(theirs.v4) || mine.v6.meets(theirs.v6)
}

// addrs are the addresses of one family that a socket answers on: none, one or
// all.
type addrs struct {
	all bool
	one netip.Addr
}

func (a addrs) meets(b addrs) bool {
	none := addrs{}
	return a != none && b != none && (a.all || b.all || a.one == b.one)
}

type reached struct{ v4, v6 addrs }

// reach says which addresses a socket at addr answers on. Only the IPv6
// wildcard can reach both families.
func reach(addr netip.Addr, dual bool) reached {
	set := addrs{all: addr.IsUnspecified()}
	if !set.all {
		set.one = addr.WithZone("")
	}
	switch {
	case addr.Is4():
		return reached{v4: set}
	case set.all && dual:
		return reached{v4: set, v6: set}
	}
	return reached{v6: set}
}
