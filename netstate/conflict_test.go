package netstate

import (
	"net/netip"
	"strings"
	"testing"
)

// overlapTable is the measured matrix: a row is what holds the port, a column
// is what wants to bind it, X is a conflict between two plain sockets.
const overlapTable = `
holder             127.0.0.1 10.9.0.1 0.0.0.0 ::1 fd00::1 ::dual ::v6only ::ffff:127.0.0.1 ::ffff:0.0.0.0
127.0.0.1          X         .        X       .   .       X      .        X                X
10.9.0.1           .         X        X       .   .       X      .        .                X
0.0.0.0            X         X        X       .   .       X      .        X                X
::1                .         .        .       X   .       X      X        .                .
::dual             X         X        X       X   X       X      X        X                X
::v6only           .         .        .       X   X       X      X        .                .
::ffff:127.0.0.1   X         .        X       .   .       X      .        X                X
child-of-dual@::1  .         .        X       X   .       X      X        .                .
child-of-v6only@::1 .        .        .       X   .       X      X        .                .
`

func TestOverlapTable(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(overlapTable), "\n")
	columns := strings.Fields(lines[0])[1:]
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		h := holderOf(t, fields[0])
		for i, want := range fields[1:] {
			b := binderOf(t, columns[i])
			if got := Conflict(b, &h); got != TriOf(want == "X") {
				t.Errorf("holder %s, bind %s: conflict %v, want %v", fields[0], columns[i], got, want == "X")
			}
		}
	}
}

func binderOf(t *testing.T, name string) BindSpec {
	t.Helper()
	var b BindSpec
	switch name {
	case "::dual":
		b = NewBindSpec(netip.IPv6Unspecified(), 80)
	case "::v6only":
		b = NewBindSpec(netip.IPv6Unspecified(), 80)
		b.V6Only = true
	default:
		b = NewBindSpec(netip.MustParseAddr(name), 80)
	}
	b.ReuseAddr = false
	return b
}

func holderOf(t *testing.T, name string) Socket {
	t.Helper()
	s := Socket{State: Bound, ReuseAddr: No, ReusePort: No, V6Only: No, Inode: 1}
	at, child := strings.CutPrefix(name, "child-of-dual@")
	if child {
		s.State = TimeWait
	} else if at, child = strings.CutPrefix(name, "child-of-v6only@"); child {
		s.State, s.V6Only = TimeWait, Yes
	} else {
		b := binderOf(t, name)
		s.Local, s.Family, s.V6Only = b.AddrPort(), b.Family, TriOf(b.V6Only)
		return s
	}
	s.Family = INET6
	s.Local = netip.AddrPortFrom(netip.MustParseAddr(at), 80)
	return s
}

// TestConflictRescue walks through every combination of the two options on
// both sides, every state and both relations of the users, and compares with
// the predicate written out in the other direction.
func TestConflictRescue(t *testing.T) {
	states := []State{Listen, Bound, Established, SynSent, FinWait1, FinWait2, CloseWait, LastAck, Closing, TimeWait}
	flags := []Tri{No, Unknown, Yes}
	for _, state := range states {
		for _, ha := range flags {
			for _, hp := range flags {
				for bits := range 8 {
					b := binderOf(t, "127.0.0.1")
					b.UID = 7
					b.ReuseAddr, b.ReusePort = bits&1 != 0, bits&2 != 0
					h := holderOf(t, "127.0.0.1")
					h.State, h.ReuseAddr, h.ReusePort = state, ha, hp
					h.UID, h.UIDKnown = 7, true
					if bits&4 != 0 {
						h.UID = 8
					}
					got := Conflict(b, &h)
					// With the unknown options set to each value in turn, the
					// answer must cover exactly the answers that are possible.
					var can [2]bool
					for _, a := range worlds(ha) {
						for _, p := range worlds(hp) {
							rescued := b.ReuseAddr && a && state != Listen ||
								b.ReusePort && p && (state == TimeWait || h.UID == b.UID)
							if rescued {
								can[0] = true
							} else {
								can[1] = true
							}
						}
					}
					want := Unknown
					if !can[0] {
						want = Yes
					} else if !can[1] {
						want = No
					}
					if got != want {
						t.Errorf("%v reuse %v/%v uid %d against %+v: %v, want %v", state, ha, hp, h.UID, b, got, want)
					}
				}
			}
		}
	}
}

func worlds(t Tri) []bool {
	switch t {
	case Yes:
		return []bool{true}
	case No:
		return []bool{false}
	}
	return []bool{false, true}
}

func TestConflictDevices(t *testing.T) {
	for _, c := range []struct {
		binder, holder uint32
		want           Tri
	}{{0, 0, Yes}, {1, 0, Yes}, {0, 1, Yes}, {1, 1, Yes}, {1, 2, No}} {
		b, h := binderOf(t, "127.0.0.1"), holderOf(t, "127.0.0.1")
		b.Device, h.Device = c.binder, c.holder
		if got := Conflict(b, &h); got != c.want {
			t.Errorf("devices %d and %d: %v, want %v", c.binder, c.holder, got, c.want)
		}
	}
}

// TestConflictIgnores: what the table lists but bind never looks at.
func TestConflictIgnores(t *testing.T) {
	b := binderOf(t, "127.0.0.1")
	request := holderOf(t, "127.0.0.1")
	request.State, request.Inode = SynRecv, 0
	other := holderOf(t, "127.0.0.1")
	other.Local = netip.MustParseAddrPort("127.0.0.1:81")
	peer := other
	peer.Remote = netip.MustParseAddrPort("127.0.0.1:80")
	for _, h := range []Socket{request, other, peer} {
		if got := Conflict(b, &h); got != No {
			t.Errorf("%v %v→%v: %v, want no", h.State, h.Local, h.Remote, got)
		}
	}
}
