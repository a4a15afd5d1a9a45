//go:build darwin || freebsd || (windows && !amd64)

package netstate

import (
	"context"
	"net/netip"
	"syscall"

	"github.com/shirou/gopsutil/v3/net"
)

// gopsutilBackend reads through gopsutil where there is nothing better.
type gopsutilBackend struct {
	protocol     Protocol
	capabilities Caps
}

func (g gopsutilBackend) read(ctx context.Context, _ uint16, dst []Socket) ([]Socket, error) {
	conns, err := net.ConnectionsWithContext(ctx, g.protocol.String())
	if err != nil {
		return nil, &OpError{Op: "read the socket table", Err: err}
	}
	for i := range conns {
		c := &conns[i]
		s := Socket{Family: INET, State: gopsutilStates[c.Status], Local: gopsutilAddr(c.Laddr)}
		if c.Family == syscall.AF_INET6 {
			s.Family = INET6
		}
		if remote := gopsutilAddr(c.Raddr); remote.Port() != 0 {
			s.Remote = remote
		}
		if g.protocol == UDP {
			s.State = Unconn
			if s.Remote.IsValid() {
				s.State = Established
			}
		}
		if s.State != TimeWait {
			s.PID = int(c.Pid)
		}
		if s.Local.Port() == 0 {
			continue // in nobody's way
		}
		dst = append(dst, s)
	}
	return dst, nil
}

// gopsutilStates are the names that gopsutil gives the states of the table.
var gopsutilStates = map[string]State{
	"CLOSED": Closed, "LISTEN": Listen, "SYN_SENT": SynSent, "SYN_RECEIVED": SynRecv,
	"ESTABLISHED": Established, "FIN_WAIT_1": FinWait1, "FIN_WAIT_2": FinWait2,
	"CLOSE_WAIT": CloseWait, "CLOSING": Closing, "LAST_ACK": LastAck,
	"TIME_WAIT": TimeWait, "DELETE": Closed,
}

func gopsutilAddr(a net.Addr) netip.AddrPort {
	addr, err := netip.ParseAddr(a.IP)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(a.Port))
}

func (gopsutilBackend) owners(ctx context.Context, sockets []Socket) (*Owners, error) {
	return ownersByPID(ctx, sockets)
}

// flags leaves the options unknown: there is no way to ask for them.
func (gopsutilBackend) flags(BindSpec, []Socket, *Owners) {}

func (g gopsutilBackend) caps() Caps { return g.capabilities }

func (gopsutilBackend) close() error { return nil }
