package netstate

import (
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Probe is one real bind: socket, options, bind, close. It never listens,
// since a client could then connect to it.
type Probe struct {
	Spec BindSpec
	At   time.Time
	Took time.Duration
	// Err is nil if the bind succeeded, otherwise the system's error, which
	// errors.Is compares with syscall errno values and fs.ErrPermission.
	Err error
}

// Bindable reports whether the bind succeeded.
func (p Probe) Bindable() bool { return p.Err == nil }

// Verdictable classes of a refused bind. They are the same on every system,
// though the numbers behind them differ.
type ErrClass uint8

// The classes that decide what happens next.
const (
	ClassNone      ErrClass = iota
	ClassInUse              // EADDRINUSE: it may clear
	ClassDenied             // EACCES, EPERM: waiting never helps
	ClassNoAddress          // EADDRNOTAVAIL, EINVAL, ENODEV: waiting never helps
	ClassOther
)

// Class tells which kind of refusal Err is.
func (p Probe) Class() ErrClass { return classify(p.Err) }

// MayBind returns an error if this process cannot make a bind as the spec's
// user or inside its network namespace: fs.ErrPermission without the right,
// errors.ErrUnsupported where the system has no way. TryBind would meet the
// same error, which then says nothing about the server's bind.
func MayBind(spec BindSpec) error { return asBinder(spec, func() error { return nil }) }

// zoneIndex turns the zone of a link-local address into the number that bind
// wants, or 0, which the system then refuses itself.
func zoneIndex(addr netip.Addr) uint32 {
	zone := addr.Zone()
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return uint32(ifi.Index)
}
