//go:build unix

package netstate

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// someSocket is a socket on port 80 with all its options.
func someSocket(rng *rand.Rand, cookie uint64) Socket {
	pick := func(from ...string) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(from[rng.IntN(len(from))]), 80)
	}
	coin := func() Tri { return TriOf(rng.IntN(2) == 0) }
	s := Socket{
		Family: INET, Local: pick("127.0.0.1", "127.0.0.2", "0.0.0.0"), Cookie: cookie, Device: uint32(rng.IntN(8) / 7),
		ReuseAddr: coin(), ReusePort: coin(), UID: currentUID(), UIDKnown: true,
		State: []State{Listen, Bound, Established, TimeWait, TimeWait, TimeWait, FinWait2}[rng.IntN(7)],
	}
	if rng.IntN(2) == 0 {
		s.Family, s.V6Only, s.Local = INET6, coin(), pick("::1", "fd00::1", "::", "127.0.0.1")
	}
	if s.State != Listen && s.State != Bound {
		s.Remote = netip.MustParseAddrPort("127.0.0.9:50000")
	}
	return s
}

func someSpec(rng *rand.Rand) BindSpec {
	addrs := []string{"127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"}
	b := NewBindSpec(netip.MustParseAddr(addrs[rng.IntN(len(addrs))]), 80)
	b.ReuseAddr, b.ReusePort = rng.IntN(2) == 0, rng.IntN(3) == 0
	return b
}

// hide takes away the options of some sockets, as the table does.
func hide(rng *rand.Rand, truly []Socket) []Socket {
	sockets := slices.Clone(truly)
	for i := range sockets {
		if s := &sockets[i]; rng.IntN(2) == 0 {
			s.ReuseAddr, s.ReusePort = Unknown, Unknown
			if s.State != Listen && s.State != Bound {
				s.V6Only = Unknown
			}
		}
	}
	return sockets
}

// TestExperimentsTellTheTruth plays random ports against the rules: whatever
// the experiments fill in must be true, and they must keep their limits.
func TestExperimentsTellTheTruth(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	learnt, groups := 0, 0
	for range 20_000 {
		var truly []Socket
		for i := range rng.IntN(6) {
			truly = append(truly, someSocket(rng, uint64(i+1)))
		}
		sockets := hide(rng, truly)
		before := slices.Clone(sockets)
		spec := someSpec(rng)
		flagged := spec
		flagged.ReuseAddr = true
		complete := rng.IntN(4) > 0
		var made []BindSpec
		oneOf := experiments(spec, sockets, complete, func(b BindSpec) ErrClass {
			made = append(made, b)
			if free(b, truly) == Yes {
				return ClassNone
			}
			return ClassInUse
		}, func() bool { return true })

		if len(made) > maxExperiments {
			t.Fatalf("%d binds", len(made))
		}
		for i, b := range made {
			asked := spec
			asked.ReusePort = false
			if b.ReusePort || !b.ReuseAddr && b != asked || slices.Contains(made[:i], b) || free(b, before) != Unknown {
				t.Fatalf("bind %d of %+v is %+v", i, spec, b)
			}
		}
		if len(made) > 0 && free(flagged, before) != Unknown && !slices.ContainsFunc(before, func(s Socket) bool { return Conflict(spec, &s) == Unknown }) {
			t.Fatalf("nothing hangs on %+v, and %+v was made", spec, made)
		}
		for i := range sockets {
			s, was, is := &sockets[i], &before[i], &truly[i]
			for _, o := range [][3]Tri{{s.ReuseAddr, was.ReuseAddr, is.ReuseAddr}, {s.ReusePort, was.ReusePort, is.ReusePort}, {s.V6Only, was.V6Only, is.V6Only}} {
				if o[0] == Unknown {
					continue
				}
				if o[0] != o[2] {
					t.Fatalf("spec %+v, made %+v: filled in %+v, truly %+v", spec, made, *s, *is)
				}
				if o[0] != o[1] {
					learnt++
					if s.FlagsFrom != FlagsBind {
						t.Fatalf("learnt from %q", s.FlagsFrom)
					}
				}
			}
		}
		for _, g := range oneOf {
			groups++
			if !slices.ContainsFunc(g, func(i int) bool { return truly[i].ReuseAddr == No }) {
				t.Fatalf("all of %v have SO_REUSEADDR: %+v", g, truly)
			}
		}
	}
	if learnt < 1000 || groups < 100 {
		t.Errorf("learnt only %d options and found %d groups", learnt, groups)
	}
}

// lingeringAt is a TIME-WAIT socket of which only the table's facts are known.
func lingeringAt(local string, cookie uint64) Socket {
	return Socket{
		Local: netip.MustParseAddrPort(local), Remote: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), 50000+uint16(cookie)),
		Family: INET, State: TimeWait, Timer: TimerTimeWait, Cookie: cookie,
	}
}

// TestExperiments gives the scenes that people meet; refuses holds the local
// addresses at which a bind with SO_REUSEADDR is refused.
func TestExperiments(t *testing.T) {
	listener := Socket{Local: netip.MustParseAddrPort("127.0.0.1:80"), Family: INET, State: Listen, Cookie: 9, Inode: 9, ReuseAddr: Yes, ReusePort: No}
	for _, c := range []struct {
		name    string
		spec    string
		sockets []Socket
		class   map[string]ErrClass
		changed bool // the port has other sockets afterwards
		blind   bool // the table may miss sockets
		want    []Tri
		oneOf   int
		binds   int
	}{
		{"one socket without the flag", "127.0.0.1", []Socket{lingeringAt("127.0.0.1:80", 1)}, map[string]ErrClass{"127.0.0.1": ClassInUse}, false, false, []Tri{No}, 0, 1},
		{"one socket with it", "127.0.0.1", []Socket{lingeringAt("127.0.0.1:80", 1)}, nil, false, false, []Tri{Yes}, 0, 1},
		{"two addresses", "0.0.0.0", []Socket{lingeringAt("127.0.0.1:80", 1), lingeringAt("127.0.0.2:80", 2)}, map[string]ErrClass{"127.0.0.2": ClassInUse}, false, false, []Tri{Yes, No}, 0, 2},
		{"two sockets at one address, refused", "127.0.0.1", []Socket{lingeringAt("127.0.0.1:80", 1), lingeringAt("127.0.0.1:80", 2)}, map[string]ErrClass{"127.0.0.1": ClassInUse}, false, false, []Tri{Unknown, Unknown}, 1, 1},
		{"two sockets at one address, allowed", "127.0.0.1", []Socket{lingeringAt("127.0.0.1:80", 1), lingeringAt("127.0.0.1:80", 2)}, nil, false, false, []Tri{Yes, Yes}, 0, 1},
		{"a listener hides it", "127.0.0.1", []Socket{listener, lingeringAt("127.0.0.1:80", 1)}, nil, false, false, []Tri{Yes, Unknown}, 0, 0},
		{"another address is not asked about", "127.0.0.1", []Socket{lingeringAt("127.0.0.2:80", 1)}, nil, false, false, []Tri{Unknown}, 0, 0},
		{"the port changed meanwhile", "127.0.0.1", []Socket{lingeringAt("127.0.0.1:80", 1)}, nil, true, false, []Tri{Unknown}, 0, 1},
		{"an invisible socket may refuse", "127.0.0.1", []Socket{lingeringAt("127.0.0.1:80", 1)}, map[string]ErrClass{"127.0.0.1": ClassInUse}, false, true, []Tri{Unknown}, 0, 1},
		{"no right to the port", "0.0.0.0", []Socket{lingeringAt("127.0.0.1:80", 1), lingeringAt("127.0.0.2:80", 2)}, map[string]ErrClass{"127.0.0.1": ClassDenied}, false, false, []Tri{Unknown, Unknown}, 0, 1},
		{"the address is gone", "0.0.0.0", []Socket{lingeringAt("127.0.0.1:80", 1)}, map[string]ErrClass{"127.0.0.1": ClassNoAddress}, false, false, []Tri{Yes}, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			binds := 0
			oneOf := experiments(NewBindSpec(netip.MustParseAddr(c.spec), 80), c.sockets, !c.blind, func(b BindSpec) ErrClass {
				binds++
				return c.class[b.Addr.String()]
			}, func() bool { return !c.changed })
			for i := range c.sockets {
				if got := c.sockets[i].ReuseAddr; got != c.want[i] {
					t.Errorf("SO_REUSEADDR of %s is %v, want %v", c.sockets[i].Local, got, c.want[i])
				}
			}
			if len(oneOf) != c.oneOf || binds != c.binds {
				t.Errorf("%d groups, want %d; %d binds, want %d", len(oneOf), c.oneOf, binds, c.binds)
			}
		})
	}
}

// TestConcludeRefusesContradictions: a result that no options explain means
// that the table is not what the bind met.
func TestConcludeRefusesContradictions(t *testing.T) {
	spec := NewBindSpec(netip.MustParseAddr("127.0.0.1"), 80)
	s := lingeringAt("127.0.0.1:80", 1)
	for _, made := range [][]experiment{
		{{spec, true}, {spec, false}},
		{{bind: NewBindSpec(netip.MustParseAddr("127.0.0.2"), 80), refused: true}},
	} {
		if _, ok := conclude([]Socket{s}, made); ok {
			t.Errorf("%+v was believed", made)
		}
	}
}

func TestSameToBind(t *testing.T) {
	a, b := lingeringAt("127.0.0.1:80", 1), lingeringAt("127.0.0.1:80", 2)
	closing := a
	closing.State = FinWait1
	listens := a
	listens.State = Listen
	for _, c := range []struct {
		before, after []Socket
		want          bool
	}{
		{[]Socket{a, b}, []Socket{b, a}, true},
		{[]Socket{a}, []Socket{closing}, true},
		{[]Socket{a}, []Socket{listens}, false},
		{[]Socket{a, b}, []Socket{a}, false},
		{[]Socket{a}, []Socket{a, b}, false},
		{[]Socket{a}, []Socket{b}, false},
	} {
		if got := sameToBind(c.before, c.after); got != c.want {
			t.Errorf("%+v and %+v: %v", c.before, c.after, got)
		}
	}
}
