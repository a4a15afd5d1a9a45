package netstate_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
	"berth/netstate/netns"
)

// udpHolder is one UDP socket of a random scene.
type udpHolder struct {
	place     int
	opt       option
	late      *option // options set after the bind
	connected bool
	device    bool
	other     bool // made as another user
	elsewhere bool // made in another network namespace, where it is in nobody's way
}

// udpScene is what one case makes on a port.
type udpScene struct {
	port      uint16
	elsewhere netns.Namespace
	fds       []int
	truth     map[uint64]truth // by cookie
}

func (s *udpScene) close() {
	for _, fd := range s.fds {
		unix.Close(fd)
	}
}

// build makes one holder. An error means that the scene does not allow it.
func (s *udpScene) build(h udpHolder, rng *rand.Rand) error {
	if h.elsewhere {
		// Its truth is not noted: no table of this namespace may show it.
		return s.elsewhere.Do(func() error {
			_, err := s.open(h, rng)
			return err
		})
	}
	fd, err := s.open(h, rng)
	if fd >= 0 {
		t, e := readTruth(fd)
		cookie, e2 := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		s.truth[cookie] = t
		err = errors.Join(err, e, e2)
	}
	return err
}

func (s *udpScene) open(h udpHolder, rng *rand.Rand) (int, error) {
	p := places[h.place]
	addr := netip.MustParseAddr(p.addr)
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	if h.other && os.Geteuid() == 0 {
		unix.Setfsuid(nobody)
		defer unix.Setfsuid(0)
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	s.fds = append(s.fds, fd)
	if err := setOption(fd, h.opt); err != nil {
		return fd, err
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, btoi(p.v6only)); err != nil {
			return fd, err
		}
	}
	if h.device {
		if err := unix.BindToDevice(fd, "lo"); err != nil {
			return fd, err
		}
	}
	if err := unix.Bind(fd, sockaddr(addr, s.port)); err != nil {
		return fd, err
	}
	if h.connected {
		to := target(h.place, rng)
		if addr.Is4In6() {
			to = netip.AddrFrom16(to.As16())
		}
		if err := unix.Connect(fd, sockaddr(to, 9)); err != nil {
			return fd, err
		}
	}
	if h.late != nil {
		return fd, setOption(fd, *h.late)
	}
	return fd, nil
}

// TestUDPAgreesWithTheKernel is TestAgreesWithTheKernel for UDP, with some
// holders and some binds in another network namespace. It is replayed the same
// way, by -seed and -n.
func TestUDPAgreesWithTheKernel(t *testing.T) {
	lab.NeedNamespace(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	var elsewhere netns.Namespace
	if os.Geteuid() == 0 {
		ns, err := lab.NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Release()
		elsewhere = ns
	}
	var refusals, unsure, quirks, inside int
	for i := range *truthCases {
		seed := *truthSeed + uint64(i)
		rng := rand.New(rand.NewPCG(seed, 17))
		s := &udpScene{port: uint16(20000 + seed%10000), truth: map[uint64]truth{}, elsewhere: elsewhere}
		var made []udpHolder
		for range rng.IntN(5) {
			h := udpHolder{
				place: rng.IntN(len(places)), opt: option{rng.IntN(2) == 0, rng.IntN(3) == 0},
				connected: rng.IntN(4) == 0, device: rng.IntN(8) == 0, other: rng.IntN(4) == 0,
				elsewhere: rng.IntN(5) == 0 && !elsewhere.Own(),
			}
			if rng.IntN(5) == 0 {
				h.late = &option{rng.IntN(2) == 0, rng.IntN(2) == 0}
			}
			if s.build(h, rng) == nil {
				made = append(made, h)
			}
		}
		spec := randomSpec(rng, s.port).In(netstate.Scope{Protocol: netstate.UDP})
		spec.ReuseAddr = rng.IntN(2) == 0
		if rng.IntN(8) == 0 && !elsewhere.Own() {
			spec.NetNS = elsewhere
			inside++
		}
		rules, real, snap, _ := ask(t, sys, spec)
		describe := func() string {
			var sb strings.Builder
			fmt.Fprintf(&sb, "seed %d\n  bind %s v6only %v reuseaddr %v reuseport %v device %d\n", seed, spec, spec.V6Only, spec.ReuseAddr, spec.ReusePort, spec.Device)
			for _, h := range made {
				fmt.Fprintf(&sb, "  holder at %s %+v late %+v\n", places[h.place].addr, h, h.late)
			}
			fmt.Fprintf(&sb, "  rules: %s\n  real:  %s %s", rules.Summary, real.Summary, real.Note)
			return sb.String()
		}
		switch {
		case real.Errno != "" && real.Errno != "EADDRINUSE":
			t.Errorf("the bind failed with %s\n%s", real.Errno, describe())
		case rules.Unsure:
			unsure++
		case rules.Bindable != real.Bindable && real.Bindable && spec.ReusePort:
			// A UDP bind with SO_REUSEPORT looks no further once it has met a
			// socket that it may share with (udp_lib_lport_inuse).
			quirks++
			if real.Note == "" {
				t.Errorf("the disagreement is not said\n%s", describe())
			}
		case rules.Bindable != real.Bindable:
			t.Errorf("the rules say %v and the kernel %v\n%s", rules.Bindable, real.Bindable, describe())
		}
		if !real.Bindable && spec.NetNS.Own() {
			refusals++
			var want []uint64
			for _, sock := range snap.Port(s.port) {
				tr, ok := s.truth[sock.Cookie]
				if !ok {
					t.Errorf("a socket that the scene did not make here: %+v\n%s", sock, describe())
					continue
				}
				if sock.FlagsFrom != netstate.FlagsUnknown && (sock.ReuseAddr != netstate.TriOf(tr.reuseAddr) || sock.ReusePort != netstate.TriOf(tr.reusePort)) {
					t.Errorf("the options of %+v are wrong\n%s", sock, describe())
				}
				sock.ReuseAddr, sock.ReusePort, sock.V6Only = netstate.TriOf(tr.reuseAddr), netstate.TriOf(tr.reusePort), netstate.TriOf(tr.v6only)
				sock.UID, sock.UIDKnown = tr.uid, true
				if netstate.Conflict(spec, &sock) == netstate.Yes {
					want = append(want, sock.Cookie)
				}
			}
			slices.Sort(want)
			if got := cookies(real.Blockers); !slices.Equal(got, want) {
				t.Errorf("named %v, truly %v\n%s", got, want, describe())
			}
		}
		if !spec.NetNS.Own() && !real.Bindable {
			for _, bl := range real.Blockers {
				if _, here := s.truth[bl.Socket.Cookie]; here {
					t.Errorf("a socket of another namespace is named as a blocker: %+v\n%s", bl.Socket, describe())
				}
			}
		}
		s.close()
	}
	t.Logf("%d cases, %d of them bound in another namespace, %d refused here, each with exactly the true blockers; %d where the rules alone could not tell, %d decided by the order in which the kernel looks",
		*truthCases, inside, refusals, unsure, quirks)
	if unsure > 0 {
		t.Errorf("%d verdicts are unsure, though every UDP socket here belongs to this process", unsure)
	}
}
