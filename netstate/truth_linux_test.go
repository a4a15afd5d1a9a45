package netstate_test

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"berth/netstate"
	"berth/netstate/lab"
	"berth/netstate/netns"
)

// The harness builds a random scene of real sockets on one port, asks the
// engine, makes the real bind, and compares. A case is replayed by its seed:
//
//	go test ./netstate -run TestAgreesWithTheKernel -v -args -seed 7 -n 1
var (
	truthSeed  = flag.Uint64("seed", 1, "seed of the first random case")
	truthCases = flag.Int("n", 500, "number of random cases")
)

// world is the port's sockets with all their options: the true ones, or others
// that they might have.
type world []netstate.Socket

// blockers returns the cookies of the sockets that refuse the bind by the
// predicate.
func (w world) blockers(spec netstate.BindSpec) []uint64 {
	var cookies []uint64
	for i := range w {
		if netstate.Conflict(spec, &w[i]) == netstate.Yes {
			cookies = append(cookies, w[i].Cookie)
		}
	}
	slices.Sort(cookies)
	return cookies
}

// world returns the sockets that the engine saw with their true options, and
// those that the harness knows nothing of.
func (s *scene) world(snap *netstate.Snapshot) (w world, strange []netstate.Socket) {
	for _, sock := range snap.Port(s.port) {
		if sock.State == netstate.SynRecv {
			// A handshake that the listener has not finished, which bind does
			// not see.
			continue
		}
		t, ok := s.truthOf(&sock)
		if !ok {
			strange = append(strange, sock)
			continue
		}
		sock.ReuseAddr, sock.ReusePort, sock.V6Only = netstate.TriOf(t.reuseAddr), netstate.TriOf(t.reusePort), netstate.TriOf(t.v6only)
		sock.UID, sock.UIDKnown = t.uid, true
		w = append(w, sock)
	}
	return w, strange
}

// wrongFlags returns the blockers of which something is shown as known and is
// not true.
func (s *scene) wrongFlags(v *netstate.Verdict) []netstate.Socket {
	var wrong []netstate.Socket
	differs := func(shown netstate.Tri, really bool) bool {
		return shown != netstate.Unknown && shown != netstate.TriOf(really)
	}
	for _, b := range slices.Concat(v.Blockers, v.Possible) {
		t, ok := s.truthOf(&b.Socket)
		if !ok {
			continue
		}
		if b.Socket.UIDKnown && b.Socket.UID != t.uid || differs(b.Socket.ReuseAddr, t.reuseAddr) ||
			differs(b.Socket.ReusePort, t.reusePort) || b.Socket.Family == netstate.INET6 && differs(b.Socket.V6Only, t.v6only) {
			wrong = append(wrong, b.Socket)
		}
	}
	return wrong
}

// probes are the binds that anybody could make to learn about a port, apart
// from those with SO_REUSEPORT, which would change what the kernel remembers.
func probes(spec netstate.BindSpec) []netstate.BindSpec {
	var binds []netstate.BindSpec
	add := func(addr netip.Addr, family netstate.Family, v6only bool) {
		for _, reuse := range []bool{true, false} {
			for _, device := range []uint32{0, 1} {
				b := spec
				b.Addr, b.Family, b.V6Only, b.ReuseAddr, b.ReusePort, b.Device = addr.Unmap(), family, v6only, reuse, false, device
				binds = append(binds, b)
			}
		}
	}
	for _, p := range places {
		addr := netip.MustParseAddr(p.addr)
		family := netstate.INET
		if addr.Is6() {
			family = netstate.INET6
		}
		add(addr, family, p.v6only)
	}
	add(netip.MustParseAddr("127.0.0.9"), netstate.INET, false) // meets wildcards alone
	return binds
}

// couldBe looks for options that the sockets might have as well, such that
// exactly the named ones refuse the bind and every probe would go as it does:
// then nobody who cannot read the options can tell the named list from the
// true one. hidden says which sockets' options may be varied.
func couldBe(w world, spec netstate.BindSpec, named []uint64, hidden func(*netstate.Socket) bool) bool {
	binds := probes(spec)
	really := w.blockers(spec)
	other := slices.Clone(w)
	var differ []int
	for i := range w {
		if slices.Contains(named, w[i].Cookie) != slices.Contains(really, w[i].Cookie) {
			if !hidden(&w[i]) {
				return false
			}
			differ = append(differ, i)
		}
	}
	if len(differ) > 4 {
		return false
	}
	for bits := range 1 << (3 * len(differ)) {
		for j, i := range differ {
			of := func(k int) netstate.Tri { return netstate.TriOf(bits>>(3*j+k)&1 != 0) }
			other[i].ReuseAddr, other[i].ReusePort, other[i].V6Only = of(0), of(1), of(2)
		}
		same := func(b netstate.BindSpec) bool { return (len(other.blockers(b)) == 0) == (len(w.blockers(b)) == 0) }
		if slices.Equal(other.blockers(spec), named) && !slices.ContainsFunc(binds, func(b netstate.BindSpec) bool { return !same(b) }) {
			return true
		}
	}
	return false
}

// score is what the harness counts.
type score struct {
	refused, exact      int
	named, wronglyNamed int            // blockers shown as certain
	unsure, quirks      int            // verdicts by the rules alone that differ from the kernel's
	classes             map[string]int // of lists that are not exact
}

// TestAgreesWithTheKernel compares the rules with the kernel on random scenes:
// what they say for certain must be what the bind does, and the blockers of a
// refused bind must be those that the predicate names with the true options.
//
// Root can read nearly every option. For an ordinary user many are beyond
// reach. Each list that is not exact must be one that no bind could have told
// from the true one.
func TestAgreesWithTheKernel(t *testing.T) {
	lab.NeedNamespace(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	root := os.Geteuid() == 0
	// An ordinary user can neither make nor enter another namespace.
	var elsewhere netns.Namespace
	if root {
		if elsewhere, err = lab.NewNamespace(); err != nil {
			t.Fatal(err)
		}
		defer elsewhere.Release()
	}
	n := score{classes: map[string]int{}}
	for i := range *truthCases {
		agree(t, sys, *truthSeed+uint64(i), elsewhere, root, &n)
	}
	exactness := 100 * float64(n.exact) / float64(max(1, n.refused))
	t.Logf("%d cases, %d refused, of these %d (%.2f %%) with exactly the true blockers; %d of %d certain blockers wrong; rules alone: %d unsure, %d others by the kernel's reuseport cache",
		*truthCases, n.refused, n.exact, exactness, n.wronglyNamed, n.named, n.unsure, n.quirks)
	for _, c := range slices.Sorted(maps.Keys(n.classes)) {
		t.Logf("  not exact: %4d × %s", n.classes[c], c)
	}
	least := 99.5
	if !root {
		least = 95
	}
	// A short run may be unlucky by three standard deviations.
	slack := 300 * math.Sqrt(least/100*(1-least/100)/float64(max(1, n.refused)))
	if *truthCases >= 10_000 {
		slack = 0
	}
	if n.refused > 0 && exactness < least-slack {
		t.Errorf("%.2f %% of the lists of blockers are exact, and %.2f %% must be", exactness, least-slack)
	}
}

// agree plays one case. Some of its holders are made in the namespace
// elsewhere, and some binds, if it is not the tests' own.
func agree(t *testing.T, sys *netstate.System, seed uint64, elsewhere netns.Namespace, root bool, n *score) {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newScene(uint16(1024 + seed%31000)) // below the ports that clients get
	defer s.close()
	var made []holderPlan
	for range rng.IntN(5) {
		h := randomHolder(rng)
		build := func() error { return s.build(h, rng) }
		if h.elsewhere = !elsewhere.Own() && rng.IntN(8) == 0; h.elsewhere {
			inside := build
			build = func() error { return elsewhere.Do(inside) }
		}
		if err := build(); err == nil {
			made = append(made, h)
		}
	}
	spec := randomSpec(rng, s.port)
	if !elsewhere.Own() && rng.IntN(8) == 0 {
		spec.NetNS = elsewhere
	}
	rules, real, snap, owners := ask(t, sys, spec)
	s.settle()

	w, strange := s.world(snap)
	want := w.blockers(spec)
	describe := func() string {
		var sb strings.Builder
		fmt.Fprintf(&sb, "seed %d\n  bind %s v6only %v reuseaddr %v reuseport %v device %d\n", seed, spec, spec.V6Only, spec.ReuseAddr, spec.ReusePort, spec.Device)
		for _, h := range made {
			fmt.Fprintf(&sb, "  holder %s\n", h)
		}
		for _, sock := range w {
			fmt.Fprintf(&sb, "  socket %d %s %s %s → %s inode %d, truly %v %v %v uid %d\n", sock.Cookie, sock.State, sock.Family, sock.Local, sock.Remote, sock.Inode, sock.ReuseAddr, sock.ReusePort, sock.V6Only, sock.UID)
		}
		for _, b := range slices.Concat(real.Blockers, real.Possible) {
			fmt.Fprintf(&sb, "  named  %d certain %v: %s %v %v %v\n", b.Socket.Cookie, b.Certain, b.Socket.FlagsFrom, b.Socket.ReuseAddr, b.Socket.ReusePort, b.Socket.V6Only)
		}
		fmt.Fprintf(&sb, "  rules: %s\n  real:  %s %s", rules.Summary, real.Summary, real.Note)
		return sb.String()
	}
	if len(strange) > 0 {
		t.Errorf("the harness does not know %+v\n%s", strange, describe())
		return
	}
	quirk := real.Bindable && len(want) > 0 && spec.ReusePort
	switch {
	case real.Errno != "" && real.Errno != "EADDRINUSE":
		t.Errorf("the bind failed with %s\n%s", real.Errno, describe())
	case real.Bindable != (len(want) == 0) && !quirk:
		t.Errorf("with the true options the rules name %v, and the kernel says %v\n%s", want, real.Bindable, describe())
	case quirk:
		// The kernel skipped its own check because it remembers an earlier
		// SO_REUSEPORT bind, which no reader can see.
		n.quirks++
		// Where the rules could not tell either, there is nothing to say.
		if real.Note == "" && !rules.Bindable {
			t.Errorf("the disagreement is not said\n%s", describe())
		}
	case rules.Unsure:
		n.unsure++
	case rules.Bindable != real.Bindable:
		t.Errorf("the rules say %v and the kernel %v\n%s", rules.Bindable, real.Bindable, describe())
	}
	for _, wrong := range s.wrongFlags(&real) {
		t.Errorf("the options of %+v are shown as known and are wrong\n%s", wrong, describe())
	}
	if real.Bindable {
		if len(real.Blockers) > 0 {
			t.Errorf("a bind that succeeded has blockers\n%s", describe())
		}
		return
	}

	n.refused++
	for _, b := range real.Blockers {
		if b.Certain {
			n.named++
			if !slices.Contains(want, b.Socket.Cookie) {
				n.wronglyNamed++
				t.Errorf("%d is shown as certain and does not refuse the bind\n%s", b.Socket.Cookie, describe())
			}
		}
	}
	got := cookies(real.Blockers)
	if slices.Equal(got, want) {
		n.exact++
		return
	}
	hidden := func(sock *netstate.Socket) bool {
		// Root reads the options of every socket in the kernel's tables, which
		// one that is bound and in flight is not in.
		return len(owners.Of(sock)) == 0 && (!root || sock.State == netstate.Bound)
	}
	class := s.classOf(w, got, want, hidden)
	if couldBe(w, spec, got, hidden) {
		n.classes["no bind tells: "+class]++
		if testing.Verbose() && *truthCases < 50 {
			t.Logf("named %v, truly %v: %s\n%s", got, want, class, describe())
		}
		return
	}
	n.classes["a bind would tell: "+class]++
	t.Errorf("named %v, truly %v, and a bind would tell\n%s", got, want, describe())
}

// classOf says in what a list differs from the true one.
func (s *scene) classOf(w world, got, want []uint64, hidden func(*netstate.Socket) bool) string {
	var words []string
	for i := range w {
		c := w[i].Cookie
		if slices.Contains(got, c) == slices.Contains(want, c) {
			continue
		}
		word := "named "
		if slices.Contains(want, c) {
			word = "missed "
		}
		word += w[i].State.String()
		switch {
		case !hidden(&w[i]):
			word += " that can be read"
		case w[i].Inode != 0:
			word += " in flight"
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

func randomSpec(rng *rand.Rand, port uint16) netstate.BindSpec {
	p := places[rng.IntN(len(places))]
	spec := netstate.NewBindSpec(netip.MustParseAddr(p.addr), port)
	spec.ReuseAddr, spec.ReusePort, spec.V6Only = rng.IntN(2) == 0, rng.IntN(4) == 0, p.v6only
	if rng.IntN(8) == 0 {
		spec.Device = 1 // lo
	}
	return spec
}

func cookies(bs []netstate.Blocker) []uint64 {
	var all []uint64
	for i := range bs {
		all = append(all, bs[i].Socket.Cookie)
	}
	slices.Sort(all)
	return all
}

// ask returns the verdict by the rules and the one by a real bind.
func ask(t *testing.T, sys *netstate.System, spec netstate.BindSpec) (rules, real netstate.Verdict, snap *netstate.Snapshot, owners *netstate.Owners) {
	t.Helper()
	real, err := sys.Why(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	snap, err = sys.ReadIn(t.Context(), spec.Scope)
	if err != nil {
		t.Fatal(err)
	}
	owners, err = sys.Owners(t.Context(), snap.Port(spec.Port))
	if err != nil {
		t.Fatal(err)
	}
	rules, err = sys.Explain(t.Context(), spec, nil, snap, owners)
	if err != nil {
		t.Fatal(err)
	}
	return rules, real, snap, owners
}
