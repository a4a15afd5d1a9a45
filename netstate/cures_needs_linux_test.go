package netstate_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
)

// TestReserveKeepsThePort: a client got the port from the system. Reserving it
// does not free it, and the system never hands it out again, nor any port that
// was reserved before.
func TestReserveKeepsThePort(t *testing.T) {
	lab.NeedNamespace(t)
	const low, port, high = 41000, 41001, 41003
	if !setSysctl(t, "ipv4.ip_local_port_range", fmt.Sprintf("%d %d", low, high)) || !setSysctl(t, "ipv4.ip_local_reserved_ports", strconv.Itoa(low)) {
		t.Skip("needs root: the port range of the namespace is to be set")
	}
	sys := openSystem(t)
	ln := socket(t)(lab.Listen(netip.MustParseAddrPort("127.0.0.1:20999"), flagged))
	defer ln.Close()

	// handedOut connects until the system has no port left.
	handedOut := func() (ports map[uint16]*lab.Conn, release func()) {
		ports = map[uint16]*lab.Conn{}
		for {
			c, err := ln.Dial(lab.Route{})
			if errors.Is(err, unix.EADDRNOTAVAIL) {
				return ports, func() {
					for _, c := range ports {
						// A reset leaves nothing on the port.
						unix.SetsockoptLinger(c.Client.FD(), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
						c.Close()
					}
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			ports[c.Client.Addr().Port()] = c
		}
	}
	ports, release := handedOut()
	if ports[port] == nil || ports[low] != nil || len(ports) != 3 {
		t.Fatalf("the system handed out %v", ports)
	}
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port)
	v, err := sys.Why(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	cs := find(&v, netstate.CureReserve)
	if len(cs) != 1 || len(find(&v, netstate.CureStop)) != 0 {
		t.Fatalf("%s\ncures %+v", v.Summary, v.Cures)
	}
	name, value := assignment(t, cs[0].Command)
	// What the shell puts in place of $(…).
	value = strings.ReplaceAll(strings.Trim(value, `"`), "$(sysctl -n net.ipv4.ip_local_reserved_ports)", strconv.Itoa(low))
	if !setSysctl(t, name, value) {
		t.Fatalf("the kernel refuses %s=%s", name, value)
	}
	if p := netstate.TryBind(spec); p.Bindable() {
		t.Error("the cure says that it does not free the port now, and it did")
	}
	release()
	ports, release = handedOut()
	defer release()
	if ports[port] != nil || ports[low] != nil || len(ports) != 2 {
		t.Errorf("after the reservation the system handed out %v", ports)
	}
	if p := netstate.TryBind(spec); !p.Bindable() {
		t.Errorf("the port is free and reserved: %v", p.Err)
	}
}

// TestPrivilegeOpensLowPorts asks without the right to low ports and then
// gives it, once to the program and once to everybody.
func TestPrivilegeOpensLowPorts(t *testing.T) {
	lab.NeedNamespace(t)
	const port = 97
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port)
	sys := openSystem(t)
	ask := func() netstate.Verdict {
		t.Helper()
		v, err := sys.Why(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	root := os.Geteuid() == 0
	if root {
		// A capability belongs to a thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		setLowPorts(t, false)
		defer setLowPorts(t, true)
	}
	v := ask()
	cs := find(&v, netstate.CurePrivilege)
	if v.Reason != netstate.ReasonDenied || len(cs) != 2 || len(v.Cures) != 2 {
		t.Fatalf("%s\ncures %+v", v.Summary, v.Cures)
	}
	if !root {
		t.Skip("needs root to give the right")
	}
	if !strings.HasPrefix(cs[0].Command, "setcap cap_net_bind_service=+ep ") {
		t.Errorf("command %q", cs[0].Command)
	}
	setLowPorts(t, true) // what setcap does for a program
	if err := netstate.TryBind(spec).Err; err != nil {
		t.Errorf("with the capability: %v", err)
	}
	setLowPorts(t, false)

	t.Run("for every user", func(t *testing.T) {
		if name, value := assignment(t, cs[1].Command); !setSysctl(t, name, value) {
			t.Fatalf("the kernel refuses %q", cs[1].Command)
		}
		// A subtest runs on a goroutine, and so a thread, of its own.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		setLowPorts(t, false)
		defer setLowPorts(t, true)
		if err := netstate.TryBind(spec).Err; err != nil {
			t.Errorf("after %q: %v", cs[1].Command, err)
		}
	})

	// The right is checked first and hides that the port is in use: then it
	// is no cure.
	setLowPorts(t, true)
	l := socket(t)(lab.Listen(netip.AddrPortFrom(spec.Addr, port), flagged))
	defer l.Close()
	setLowPorts(t, false)
	v = ask()
	if cs := v.Cures; v.Reason != netstate.ReasonDenied || len(cs) != 1 || cs[0].Command != "sudo berth why 97" {
		t.Errorf("%s\ncures %+v", v.Summary, cs)
	}
}

func setLowPorts(t *testing.T, allowed bool) {
	t.Helper()
	if err := lowPorts(allowed); err != nil {
		t.Fatal(err)
	}
}

// lowPorts gives this thread the right to bind low ports, or takes it away for
// a while.
func lowPorts(allowed bool) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_NET_BIND_SERVICE
	if allowed {
		data[0].Effective |= 1 << unix.CAP_NET_BIND_SERVICE
	}
	return unix.Capset(&header, &data[0])
}

// TestHostCureIsBindable: an address that this machine does not have, on a
// port that is free or taken at the address that would be proposed first.
func TestHostCureIsBindable(t *testing.T) {
	lab.NeedNamespace(t)
	sys := openSystem(t)
	port, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for _, taken := range []string{"", "127.0.0.1", "0.0.0.0", "::"} {
		t.Run("taken "+taken, func(t *testing.T) {
			if taken != "" {
				l := socket(t)(lab.Listen(netip.AddrPortFrom(netip.MustParseAddr(taken), port), plain))
				defer l.Close()
			}
			for _, addr := range []string{"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "ff02::1"} {
				for _, reuse := range []bool{true, false} {
					spec := netstate.NewBindSpec(netip.MustParseAddr(addr), port)
					spec.ReuseAddr = reuse
					v, err := sys.Why(t.Context(), spec)
					if err != nil {
						t.Fatal(err)
					}
					cs := find(&v, netstate.CureHost)
					if v.Reason != netstate.ReasonNoAddress || len(cs) != len(v.Cures) || len(cs) == 0 != (taken == "::") {
						t.Fatalf("%s\ncures %+v", v.Summary, v.Cures)
					}
					for _, c := range cs {
						q := questions(t, c.Command)[0]
						if q.spec.ReuseAddr != reuse || q.spec.Port != port {
							t.Errorf("%q asks another question", c.Command)
						}
						if err := netstate.TryBind(q.spec).Err; err != nil {
							t.Errorf("%s: %q: %v", spec, c.Command, err)
						}
					}
				}
			}
		})
	}
}

// TestHostCureWithoutIPv6: where IPv6 is turned off, ::1 is no way out.
func TestHostCureWithoutIPv6(t *testing.T) {
	lab.NeedNamespace(t)
	port, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port)
	l := socket(t)(lab.Listen(spec.AddrPort(), flagged))
	defer l.Close()
	hosts := func() []netstate.Cure {
		t.Helper()
		v, err := openSystem(t).Why(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		return find(&v, netstate.CureHost)
	}
	if cs := hosts(); len(cs) != 1 {
		t.Fatalf("with IPv6: %+v", cs)
	}
	if !setSysctl(t, "ipv6.conf.lo.disable_ipv6", "1") {
		t.Skip("needs root: IPv6 is to be turned off in the namespace")
	}
	v6 := netstate.NewBindSpec(netip.IPv6Loopback(), port)
	if p := netstate.TryBind(v6); p.Class() != netstate.ClassNoAddress {
		t.Fatalf("the bind to ::1 gives %v", p.Err)
	}
	if cs := hosts(); len(cs) != 0 {
		t.Errorf("without IPv6: %+v", cs)
	}
}
