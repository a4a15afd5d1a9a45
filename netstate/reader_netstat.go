//go:build linux || (windows && amd64)

package netstate

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"

	"github.com/cakturk/go-netstat/netstat"
)

// netstatBackend reads through go-netstat, which tells a process for each
// socket and neither inodes nor timers. Each platform file says what its
// states mean and what is missing.
type netstatBackend struct{ protocol Protocol }

func (n netstatBackend) read(ctx context.Context, _ uint16, dst []Socket) ([]Socket, error) {
	tables := []struct {
		family Family
		read   func(netstat.AcceptFn) ([]netstat.SockTabEntry, error)
	}{{INET, netstat.TCPSocks}, {INET6, netstat.TCP6Socks}}
	if n.protocol == UDP {
		tables[0].read, tables[1].read = netstat.UDPSocks, netstat.UDP6Socks
	}
	for _, t := range tables {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		entries, err := readNetstat(t.read, func(e *netstat.SockTabEntry) bool {
			// go-netstat compares each accepted socket with each descriptor
			// of the system. TIME-WAIT sockets have no descriptor and are
			// the many, so they are taken here and refused to it.
			s := n.socket(e, t.family)
			if s.State != TimeWait {
				return true
			}
			dst = append(dst, s)
			return false
		})
		if t.family == INET6 && errors.Is(err, fs.ErrNotExist) {
			continue // a system without IPv6
		}
		if err != nil {
			return nil, &OpError{Op: "read the socket table", Err: err}
		}
		for i := range entries {
			dst = append(dst, n.socket(&entries[i], t.family))
		}
	}
	return dst, nil
}

func (netstatBackend) owners(ctx context.Context, sockets []Socket) (*Owners, error) {
	return ownersByPID(ctx, sockets)
}

// flags leaves the options unknown: a process without a descriptor number is
// not enough to ask the socket itself.
func (netstatBackend) flags(BindSpec, []Socket, *Owners) {}

func (netstatBackend) close() error { return nil }

// socket translates an entry. A UDP socket's state says only whether it has a
// peer, and Windows does not tell one.
func (n netstatBackend) socket(e *netstat.SockTabEntry, family Family) Socket {
	s := fromNetstat(e, family)
	if n.protocol == UDP {
		s.State = Unconn
		if s.Remote.IsValid() {
			s.State = Established
		}
	}
	return s
}

func fromNetstat(e *netstat.SockTabEntry, family Family) Socket {
	s := Socket{
		Family: family,
		State:  netstatState(e.State),
		Local:  netstatAddr(e.LocalAddr),
	}
	if remote := netstatAddr(e.RemoteAddr); remote.Port() != 0 {
		s.Remote = remote
	}
	if e.Process != nil && s.State != TimeWait {
		s.PID = e.Process.Pid
	}
	s.UID, s.UIDKnown = netstatUID(e, &s)
	return s
}

func netstatAddr(a *netstat.SockAddr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(unmapped(a.IP), a.Port)
}

func unmapped(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
