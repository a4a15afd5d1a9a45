package netstate

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// An experiment is a bind that is made only for what its result tells about
// the options of sockets that no reader shows: those that no process owns, for
// want of root, and those of other users. If every other socket in its way is
// known not to refuse it, it hangs on the one that is not known:
//
//	bind 127.0.0.1:80 with SO_REUSEADDR, where one TIME-WAIT socket has that
//	address → success: the socket has SO_REUSEADDR; EADDRINUSE: it has not
//
// With several sockets of unknown options in its way, success clears all of
// them, and a refusal says that at least one of them refuses.
//
// Experiments never carry SO_REUSEPORT, since the kernel remembers for a port
// that such a bind succeeded, and lets later ones skip its checks. They carry
// SO_REUSEADDR, with which they are in no starting server's way that has it
// too, or are the very bind that was asked about. One thing escapes them:
// before Linux 6.8 (inet_csk_update_fastreuse) a port on which every bind had
// SO_REUSEADDR is not checked, so that a socket which took its own back after
// its bind looks as if it still had it.

// maxExperiments bounds the binds that one verdict may cost, at some 10 µs.
const maxExperiments = 16

// experiment is one such bind and whether it was refused with EADDRINUSE.
type experiment struct {
	bind    BindSpec
	refused bool
}

// experiments makes the binds that answer something for spec and fills in, in
// place, what their results tell. It returns those groups of sockets, as
// indexes, of which at least one refuses a bind and nobody can tell which.
//
// try makes a bind. complete says that the table lists every socket that bind
// sees: otherwise an invisible one may be what refuses, and only success tells
// anything. still reports, after all binds, whether the port has the same
// sockets as before: otherwise a result may be about a socket that came or
// went, and nothing is concluded.
func experiments(spec BindSpec, sockets []Socket, complete bool, try func(BindSpec) ErrClass, still func() bool) (oneOf [][]int) {
	known := slices.Clone(sockets)
	var made []experiment
	var tried []BindSpec
	for len(tried) < maxExperiments {
		bind, ok := nextExperiment(spec, known, tried, oneOf)
		if !ok {
			break
		}
		tried = append(tried, bind)
		switch class := try(bind); {
		case class == ClassNone, class == ClassInUse && complete:
			made = append(made, experiment{bind, class == ClassInUse})
		case class == ClassDenied:
			return nil // so is every other bind to this port
		default:
			continue
		}
		if oneOf, ok = conclude(known, made); !ok {
			return nil
		}
	}
	if len(made) == 0 || !still() {
		return nil
	}
	copy(sockets, known)
	return oneOf
}

// experiment makes the experiments for a spec on the sockets of its port. It is
// done only where the rules are the kernel's own and every socket has a cookie.
func (t *table) experiment(ctx context.Context, spec BindSpec, sockets []Socket, caps *Caps) (oneOf [][]int) {
	if caps.Source != "sock_diag" || spec.Protocol != TCP {
		return nil
	}
	try := func(b BindSpec) ErrClass { return TryBind(b).Class() }
	return experiments(spec, sockets, caps.Bound, try, func() bool {
		now, err := t.read(ctx, spec.Port, nil)
		if err != nil {
			return false
		}
		return sameToBind(sockets, NewSnapshot(time.Time{}, now, *caps).Port(spec.Port))
	})
}

// sameToBind reports whether two readings of a port list the same sockets, as
// far as a bind without SO_REUSEPORT can tell: to it, every state but LISTEN is
// the same.
func sameToBind(before, after []Socket) bool {
	type look struct{ listens, counts bool }
	looks := make(map[uint64]look, len(before))
	for i := range before {
		looks[before[i].Cookie] = look{before[i].State == Listen, occupies(&before[i])}
	}
	for i := range after {
		s := &after[i]
		if was, ok := looks[s.Cookie]; !ok || was != (look{s.State == Listen, occupies(s)}) {
			return false
		}
	}
	return len(before) == len(after)
}

// nextExperiment returns the bind that would tell most about the sockets on
// whose hidden options spec hangs, or spec with SO_REUSEADDR, which is what a
// refused server would try next; ok is false if no bind tells anything.
func nextExperiment(spec BindSpec, sockets []Socket, tried []BindSpec, oneOf [][]int) (best BindSpec, ok bool) {
	fewest := 0
	for _, bind := range candidates(spec, sockets) {
		if slices.Contains(tried, bind) {
			continue
		}
		open, refused := hangsOn(bind, sockets)
		if refused || len(open) == 0 || ok && len(open) >= fewest {
			continue
		}
		if slices.ContainsFunc(oneOf, func(group []int) bool { return subset(group, open) }) {
			continue // it would be refused for the same reason
		}
		best, ok, fewest = bind, true, len(open)
	}
	return best, ok
}

// hangsOn returns the sockets on whose hidden options the result of a bind
// hangs, or that it is refused whatever they are.
func hangsOn(bind BindSpec, sockets []Socket) (open []int, refused bool) {
	for i := range sockets {
		switch Conflict(bind, &sockets[i]) {
		case Yes:
			return nil, true
		case Unknown:
			open = append(open, i)
		}
	}
	return open, false
}

func subset(part, whole []int) bool {
	return !slices.ContainsFunc(part, func(i int) bool { return !slices.Contains(whole, i) })
}

// candidates lists binds that meet the sockets on which spec hangs, those that
// meet the fewest others first.
func candidates(spec BindSpec, sockets []Socket) []BindSpec {
	spec.UID = currentUID()
	flagged := spec
	flagged.ReuseAddr = true
	flaggedOpen := free(flagged, sockets) == Unknown

	var binds []BindSpec
	add := func(addr netip.Addr, family Family, device uint32) {
		b := flagged
		b.Addr, b.Family, b.Device, b.ReusePort = addr, family, device, false
		b.V6Only = addr.Is6()
		if !slices.Contains(binds, b) {
			binds = append(binds, b)
		}
	}
	quiet := quietAddr(sockets)
	for i := range sockets {
		s := &sockets[i]
		if Conflict(spec, s) != Unknown && !(flaggedOpen && Conflict(flagged, s) == Unknown) {
			continue
		}
		addr := s.Local.Addr()
		switch {
		case addr.Is4() && !addr.IsUnspecified():
			add(addr, INET, s.Device)
		case addr.Is4():
			add(quiet, INET, s.Device)
		case !addr.IsUnspecified():
			add(addr, INET6, s.Device)
			// This one meets an IPv6 address only if the socket is dual-stack.
			add(netip.IPv4Unspecified(), INET, s.Device)
		default:
			add(quiet, INET, s.Device)
			add(netip.IPv6Loopback(), INET6, s.Device)
		}
		if len(binds) > 2*maxExperiments {
			break
		}
	}
	if len(binds) == 0 {
		return nil
	}
	for _, b := range []BindSpec{flagged, spec} {
		b.ReusePort = false
		if !slices.Contains(binds, b) {
			binds = append(binds, b)
		}
	}
	return binds
}

// quietAddr is a loopback address at which the port has no socket, so that a
// bind to it meets only those at the wildcard. All of 127.0.0.0/8 is local.
func quietAddr(sockets []Socket) netip.Addr {
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for slices.ContainsFunc(sockets, func(s Socket) bool { return s.Local.Addr() == addr }) {
		addr = addr.Next()
	}
	return addr
}

// conclude fills in the options that the results prove, and returns the groups
// of which at least one socket refuses a bind. It returns false if the results
// contradict the table, which has changed then.
func conclude(sockets []Socket, made []experiment) (oneOf [][]int, ok bool) {
	for learnt := true; learnt; {
		learnt, oneOf = false, nil
		for _, e := range made {
			open, refused := hangsOn(e.bind, sockets)
			want := No
			switch {
			case refused != e.refused && len(open) == 0:
				return nil, false
			case refused:
				continue
			case e.refused && len(open) > 1:
				oneOf = append(oneOf, open)
				continue
			case e.refused:
				want = Yes
			}
			for _, i := range open {
				filled, ok := suppose(&sockets[i], e.bind, want)
				if !ok {
					return nil, false
				}
				learnt = learnt || filled
			}
		}
	}
	return oneOf, true
}

// suppose fills in the hidden options that s must have for Conflict(b, s) to
// be want: those on which all combinations that make it so agree. It returns
// false for ok if none does.
func suppose(s *Socket, b BindSpec, want Tri) (filled, ok bool) {
	options := func(s *Socket) [3]*Tri { return [3]*Tri{&s.ReuseAddr, &s.ReusePort, &s.V6Only} }
	var agreed [3]Tri
	for bits := range 8 {
		t, fits := *s, true
		for j, o := range options(&t) {
			value := TriOf(bits>>j&1 != 0)
			fits = fits && (*o == Unknown || *o == value)
			*o = value
		}
		if !fits || Conflict(b, &t) != want {
			continue
		}
		for j, o := range options(&t) {
			if !ok {
				agreed[j] = *o
			} else if agreed[j] != *o {
				agreed[j] = Unknown
			}
		}
		ok = true
	}
	for j, o := range options(s) {
		if ok && *o == Unknown && agreed[j] != Unknown {
			*o, filled = agreed[j], true
		}
	}
	if filled && s.FlagsFrom == FlagsUnknown {
		s.FlagsFrom = FlagsBind
	}
	return filled, ok
}
