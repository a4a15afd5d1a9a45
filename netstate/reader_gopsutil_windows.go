//go:build !amd64

package netstate

import (
	"context"
	"net/netip"
	"syscall"

	"github.com/shirou/gopsutil/v3/net"
)

// openBackend reads through gopsutil, since go-netstat knows Windows on amd64
// only.
func openBackend() (backend, error) { return gopsutilBackend{}, nil }

type gopsutilBackend struct{}

func (gopsutilBackend) read(ctx context.Context, dst []Socket) ([]Socket, error) {
	conns, err := net.ConnectionsWithContext(ctx, "tcp")
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
		if s.State != TimeWait {
			s.PID = int(c.Pid)
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

// flags leaves the options unknown: Windows has no way to ask for them.
func (gopsutilBackend) flags(BindSpec, []Socket, *Owners) {}

func (gopsutilBackend) caps() Caps { return windowsCaps() }

func (gopsutilBackend) close() error { return nil }
