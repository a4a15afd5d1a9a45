package netstate

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate/sockdiag"
	"berth/netstate/sockflags"
)

// openBackend prefers NETLINK_SOCK_DIAG, which is complete and fast, and
// falls back to /proc/net where netlink is refused: some sandboxes filter it.
func openBackend(scope Scope) (backend, error) {
	conn, err := sockdiag.Dial()
	if err == nil {
		d := &diagBackend{conn: conn, query: sockdiag.Query{Protocol: diagProtocol(scope.Protocol), States: sockdiag.AllStates}, counts: openSockstat()}
		// A filter may let the socket through and refuse the request, so one
		// is made before the reader counts as working.
		probe := d.query
		probe.States = sockdiag.StateListen
		err = conn.Dump(probe, func(*sockdiag.Record) bool { return true })
		if err == nil {
			return d, nil
		}
		d.close()
	}
	if !scope.NetNS.Own() {
		// /proc/net is that of the process, not of the thread that asks.
		return nil, &OpError{Op: "read the socket table of another network namespace", Err: err, Hint: "allow NETLINK_SOCK_DIAG"}
	}
	table, tableErr := openNetstat(scope.Protocol)
	if tableErr != nil {
		return nil, &OpError{
			Op:   "read the socket table",
			Err:  fmt.Errorf("netlink was refused (%w) and so was /proc/net (%w)", err, tableErr),
			Hint: "allow NETLINK_SOCK_DIAG, or mount /proc",
		}
	}
	return &tableBackend{backend: table, refused: err}, nil
}

// tableBackend is the fallback, which says why it is used.
type tableBackend struct {
	backend
	refused error
}

func (t *tableBackend) caps() Caps {
	c := t.backend.caps()
	c.Notes = append([]string{fmt.Sprintf("netlink is refused here (%v), so /proc/net is read: no timers, no bound sockets, one holder a socket", t.refused)}, c.Notes...)
	c.EphemeralFrom, c.EphemeralTo = ephemeralRange()
	return c
}

// diagProtocol is the number by which sock_diag knows a protocol.
func diagProtocol(p Protocol) sockdiag.Protocol {
	if p == UDP {
		return sockdiag.UDP
	}
	return sockdiag.TCP
}

// diagBackend reads through sock_diag.
type diagBackend struct {
	conn   *sockdiag.Conn
	query  sockdiag.Query
	known  *Caps
	counts *sockstat    // nil where they cannot be read
	wheel  *wheelReader // nil before known is set, and where nothing is known
	began  time.Time    // when the last reading of the table began
	// iter reads the options of ownerless sockets; nil before it was needed
	// and where it is not permitted.
	iter      *sockflags.Reader
	iterTried bool
	// remembered are options by port and cookie that cannot change any more.
	remembered map[uint16]map[uint64]sockflags.Flags
}

func (d *diagBackend) close() error {
	if d.iter != nil {
		d.iter.Close()
	}
	d.wheel.close()
	d.counts.close()
	return d.conn.Close()
}

// read leaves out what the kernel's counters say is not there: to look through
// its hashes of bound sockets and of connections costs milliseconds, also if
// they are empty. Those of listeners are small.
func (d *diagBackend) read(ctx context.Context, port uint16, dst []Socket) ([]Socket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.began = time.Now()
	query := d.query
	if query.Protocol == sockdiag.UDP {
		return d.dump(query, dst)
	}
	if d.counts.noneBound() {
		query.States &^= sockdiag.StateBound
	}
	if port == 0 {
		return d.dump(query, dst)
	}
	listeners := query
	listeners.States = sockdiag.StateListen
	all, err := d.dump(listeners, dst)
	if err != nil || d.counts.only(len(all)-len(dst)) {
		return all, err
	}
	query.States &^= sockdiag.StateListen
	query.Port = port
	before := len(all)
	all, err = d.dump(query, all)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(all[before:], func(s Socket) bool { return !occupies(&s) })
	return all[:before+len(others)], nil
}

func (d *diagBackend) dump(q sockdiag.Query, dst []Socket) ([]Socket, error) {
	udp := q.Protocol == sockdiag.UDP
	err := d.conn.Dump(q, func(r *sockdiag.Record) bool {
		s := fromRecord(r)
		if udp && s.State == Bound {
			s.State = Unconn
		}
		dst = append(dst, s)
		return true
	})
	if err != nil {
		return nil, &OpError{Op: "read the socket table", Err: err}
	}
	return dst, nil
}

func (d *diagBackend) owners(ctx context.Context, sockets []Socket) (*Owners, error) {
	return walkOwners(ctx, sockets)
}

// fromRecord translates one answer. IPv4-mapped addresses are unmapped, as
// bind compares them so; Family still tells them apart.
func fromRecord(r *sockdiag.Record) Socket {
	s := Socket{
		Family: INET,
		State:  State(r.State),
		Timer:  Timer(r.Timer),
		Cookie: r.Cookie,
		Inode:  uint64(r.Inode),
		Device: r.Interface,
		RecvQ:  r.RecvQ,
		SendQ:  r.SendQ,
	}
	local, remote := netip.AddrFrom4([4]byte(r.Local[:4])), netip.AddrFrom4([4]byte(r.Remote[:4]))
	if r.Family == unix.AF_INET6 {
		s.Family = INET6
		local, remote = netip.AddrFrom16(r.Local).Unmap(), netip.AddrFrom16(r.Remote).Unmap()
	}
	s.Local = netip.AddrPortFrom(local, r.LocalPort)
	if r.RemotePort != 0 {
		s.Remote = netip.AddrPortFrom(remote, r.RemotePort)
	}
	if s.Timer != TimerNone {
		s.Expires = time.Duration(r.ExpiresMS) * time.Millisecond
	}
	if r.HasV6Only {
		s.V6Only = TriOf(r.V6Only)
	}
	if s.State == Closed {
		// Only sockets that still have a port are listed at all, and a socket
		// in CLOSE with a port is a bound one: never listened, or shut down.
		s.State = Bound
	}
	// A minisocket and a request belong to nobody and are listed with uid 0.
	// For every other socket the kernel writes the uid that bind compares, by
	// one function: sk_uid, and before Linux 6.17 sock_i_uid, which takes a
	// socket without an inode for root's there as well as here.
	if !minisocket(&s) && occupies(&s) {
		s.UID, s.UIDKnown = r.UID, true
	}
	return s
}

// Record is the inverse of fromRecord, as far as an action on the socket
// needs it: the identity that the kernel compares.
func (s *Socket) Record() sockdiag.Record {
	r := sockdiag.Record{
		Family:     unix.AF_INET,
		State:      uint8(s.State),
		LocalPort:  s.Local.Port(),
		RemotePort: s.Remote.Port(),
		Interface:  s.Device,
		Cookie:     s.Cookie,
	}
	if s.Family == INET6 {
		r.Family = unix.AF_INET6
		r.Local, r.Remote = s.Local.Addr().As16(), s.Remote.Addr().As16()
		return r
	}
	copy(r.Local[:], s.Local.Addr().AsSlice())
	copy(r.Remote[:], s.Remote.Addr().AsSlice())
	return r
}
