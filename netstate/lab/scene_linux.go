package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Scene is one port in one state, and whatever must stay open for it.
type Scene struct {
	// Socket has the wanted state. Its descriptor is closed if the state is
	// one that no process can hold, which is TIME-WAIT. Closing it in another
	// state makes it an orphan, where TCP has orphans.
	Socket *Socket
	// Local and Remote are its two ends; Remote is invalid without a peer.
	Local, Remote netip.AddrPort

	rest []*Socket
}

// Close closes every descriptor that the scene has left.
func (s *Scene) Close() error {
	errs := []error{s.Socket.Close()}
	for _, r := range s.rest {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// scenes makes each state at addr, under the name that ss(8) prints.
var scenes = []struct {
	state string
	make  func(addr netip.AddrPort, opts Options) (*Scene, error)
}{
	{"LISTEN", single(Listen)},
	{"BOUND", single(Bound)},
	{"SYN-SENT", connecting},
	{"ESTAB", serving(func(*Socket) error { return nil })},
	{"CLOSE-WAIT", serving((*Socket).CloseWait)},
	{"FIN-WAIT-1", serving((*Socket).FinWait1)},
	{"FIN-WAIT-2", serving((*Socket).FinWait2)},
	{"CLOSING", serving((*Socket).Closing)},
	{"LAST-ACK", serving((*Socket).LastAck)},
	{"TIME-WAIT", serving((*Socket).TimeWait)},
}

// States returns the states that Make can make, as ss(8) prints them.
func States() []string {
	names := make([]string, len(scenes))
	for i := range scenes {
		names[i] = scenes[i].state
	}
	return names
}

// Make brings the port of addr into a state, named as ss(8) prints it. Nothing
// else is left on the port: a connection's listener is closed again. If addr
// is a wildcard, the connection's local address is a loopback address.
func Make(state string, addr netip.AddrPort, opts Options) (*Scene, error) {
	for i := range scenes {
		if scenes[i].state == state {
			return scenes[i].make(addr, opts)
		}
	}
	return nil, fmt.Errorf("the lab makes no state %q: it makes %s", state, strings.Join(States(), ", "))
}

func single(open func(netip.AddrPort, Options) (*Socket, error)) func(netip.AddrPort, Options) (*Scene, error) {
	return func(addr netip.AddrPort, opts Options) (*Scene, error) {
		s, err := open(addr, opts)
		if err != nil {
			return nil, err
		}
		return &Scene{Socket: s, Local: s.local}, nil
	}
}

// serving makes a server's end of a connection and then changes its state.
func serving(change func(*Socket) error) func(netip.AddrPort, Options) (*Scene, error) {
	return func(addr netip.AddrPort, opts Options) (*Scene, error) {
		l, err := Listen(addr, opts)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		c, err := l.Dial(Route{})
		if err != nil {
			return nil, err
		}
		if err := change(c.Server); err != nil {
			c.Close()
			return nil, err
		}
		return &Scene{Socket: c.Server, Local: c.Server.local, Remote: c.Client.local, rest: []*Socket{c.Client}}, nil
	}
}

// connecting makes a client at addr whose SYN is dropped, because the queue of
// the listener that it asks is full. The kernel gives up after about two
// minutes (tcp_syn_retries).
func connecting(addr netip.AddrPort, opts Options) (*Scene, error) {
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if addr.Addr().Is6() && !addr.Addr().Is4In6() {
		host = netip.IPv6Loopback()
	}
	l, err := Bound(netip.AddrPortFrom(host, 0), Options{})
	if err != nil {
		return nil, err
	}
	scene := &Scene{Socket: &Socket{fd: -1}, rest: []*Socket{l}}
	// A queue of length 0 holds one connection.
	if err := unix.Listen(l.fd, 0); err != nil {
		scene.Close()
		return nil, err
	}
	filler, err := l.Queue(Route{})
	if err != nil {
		scene.Close()
		return nil, err
	}
	scene.rest = append(scene.rest, filler)
	client, err := Bound(addr, opts)
	if err != nil {
		scene.Close()
		return nil, err
	}
	scene.Socket = client
	target := l.local
	if addr.Addr().Is6() {
		target = netip.AddrPortFrom(mapped(target.Addr()), target.Port())
	}
	if err := unix.Connect(client.fd, sockaddr(target)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		scene.Close()
		return nil, err
	}
	if err := errors.Join(client.learnLocal(), client.awaitState("SYN-SENT", synSent)); err != nil {
		scene.Close()
		return nil, err
	}
	scene.Local, scene.Remote = client.local, l.local
	return scene, nil
}
