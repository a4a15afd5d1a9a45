package ui

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"berth/netstate"
	"berth/netstate/netns"
	"berth/ui/theme"
)

var (
	docker = netns.Namespace{ID: 4026532301, Path: "/proc/2201/ns/net", Name: "docker 3f2a61c09b1e", PID: 2201}
	blue   = netns.Namespace{ID: 4026532402, Path: "/run/netns/blue", Name: "blue"}
)

// neighbours is the machine with a container and a network namespace that
// somebody has named. Port 18789 is in use in each, and another container
// shares the network of the host.
func neighbours() *script {
	s := machine()
	s.spaces = []netns.Namespace{docker, blue}
	process := func(pid int, name, user string, uid int, container string, cmd ...string) {
		s.procs[pid] = netstate.Holder{
			ID: netstate.ProcessID{PID: pid, Start: uint64(pid)}, Name: name, User: user, UID: uid, Container: container,
			Cmdline: cmd, Cwd: "/", Started: s.now.Add(-26 * time.Hour),
		}
	}
	process(2201, "nginx", "ada", 1000, docker.Name, "nginx: master process nginx -g daemon off;")
	process(2310, "redis-server", "redis", 999, "podman 9c1db9b07a41", "redis-server", "*:6379")
	process(2450, "python3", "ada", 1000, "", "python3", "-m", "http.server", "18789")
	in := func(ns netns.Namespace, k *scriptSocket) { k.netns = ns.ID }
	in(docker, s.add(netstate.Listen, 2201, "0.0.0.0:8443", ""))
	in(docker, s.add(netstate.Established, 2201, "172.17.0.2:8443", "172.17.0.1:40112"))
	in(docker, s.linger("172.17.0.2:8443", "172.17.0.1:40098", 90*time.Second))
	bound := s.add(netstate.Bound, 2201, "127.0.0.1:18789", "")
	bound.ReuseAddr = netstate.No
	in(docker, bound)
	in(blue, s.add(netstate.Listen, 2450, "127.0.0.1:18789", ""))
	s.add(netstate.Listen, 2310, "127.0.0.1:6379", "")
	return s
}

// namespacePages are ways to what is said of other network namespaces.
var namespacePages = map[string]func(*stage){
	"overview": func(st *stage) { st.press("n") },
	"filter":   func(st *stage) { st.press("n", "/", "d", "o", "c", "k") },
	"port": func(st *stage) {
		st.press("n")
		st.advance(0)
		st.find(place{docker, 8443})
		st.press("enter")
		st.advance(time.Second)
	},
	"dialog": func(st *stage) {
		st.press("n")
		st.advance(0)
		st.find(place{docker, 8443})
		st.press("r")
		st.advance(grace)
	},
	"running": func(st *stage) {
		st.press("n")
		st.advance(0)
		st.find(place{docker, 8443})
		st.press("r")
		st.advance(grace)
		st.press("y")
		st.advance(200 * time.Millisecond)
	},
	"note": func(st *stage) {
		st.script.spaces = nil
		st.script.note = "only berth's own network namespace is shown: run as root to see those of containers"
		st.press("n")
	},
}

// find moves the cursor to a row by keys.
func (st *stage) find(at place) {
	st.press("g")
	for range st.m.ports.rows {
		if r := st.m.ports.row(); r != nil && r.id() == at.id() {
			return
		}
		st.press("j")
	}
}

func TestNamespacePages(t *testing.T) {
	for page, way := range namespacePages {
		for _, look := range []theme.Theme{theme.ANSI(), theme.Mono().WithASCII()} {
			t.Run(page+"/"+lookName(look), func(t *testing.T) {
				t.Parallel()
				o := opts()
				o.Theme = look
				st := newStage(neighbours(), o, 100, 30)
				defer st.close()
				st.advance(34 * time.Second)
				way(st)
				st.advance(0)
				for _, size := range [][2]int{{120, 30}, {100, 30}, {80, 24}, {60, 20}, {40, 10}} {
					st.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
					golden(t, fmt.Sprintf("namespaces/%s_%dx%d_%s", page, size[0], size[1], lookName(look)), st.view())
				}
			})
		}
	}
}

func spaced(t *testing.T, o Options) *stage {
	t.Helper()
	st := newStage(neighbours(), o, 100, 30)
	t.Cleanup(st.close)
	return st
}

// places are the rows on the overview.
func (st *stage) places() (all []string) {
	for _, r := range st.m.ports.rows {
		all = append(all, r.place.String())
	}
	return all
}

// TestNamespaceKey: n shows every namespace and again only the own one, and
// the engine reads the others only meanwhile.
func TestNamespaceKey(t *testing.T) {
	st := spaced(t, opts())
	own := st.places()
	if slices.ContainsFunc(own, func(s string) bool { return strings.Contains(s, "netns") }) || st.sees("NETNS") {
		t.Fatalf("at first: %v", own)
	}
	if n := wanted[effectReach](st); n != 0 {
		t.Errorf("the engine was told %d times where to look before anybody asked", n)
	}
	st.press("n")
	st.advance(0)
	all := st.places()
	for _, want := range []string{"18789 in netns blue", "8443 in netns docker 3f2a61c09b1e", "18789 in netns docker 3f2a61c09b1e"} {
		if !slices.Contains(all, want) {
			t.Errorf("all: no row %q in %v", want, all)
		}
	}
	if len(all) != len(own)+3 {
		t.Errorf("%d rows of all namespaces, %d of the own", len(all), len(own))
	}
	expect(t, st, "NETNS", "docker 3f2a61c09b1e", "all namespaces")
	st.press("n")
	st.advance(0)
	if got := st.places(); !slices.Equal(got, own) {
		t.Errorf("afterwards: %v, want %v", got, own)
	}
	if st.script.reach != (Reach{}) || wanted[effectReach](st) != 2 {
		t.Errorf("the engine looks at %+v after %d times", st.script.reach, wanted[effectReach](st))
	}
}

// TestSamePortElsewhere: what is done about a port in one namespace is not
// done about the same port in another.
func TestSamePortElsewhere(t *testing.T) {
	st := spaced(t, opts())
	st.press("n")
	st.advance(0)
	at := place{blue, netstate.DefaultPort}
	st.find(at)
	if r := st.m.ports.row(); r.gateway || r.held[0].ID.PID != 2450 {
		t.Errorf("the row is %+v", r)
	}
	// The cursor stays on it while rows come and go, and however they are
	// sorted.
	st.script.add(netstate.Listen, 812, "127.0.0.1:1500", "").netns = blue.ID
	st.script.add(netstate.Listen, 812, "127.0.0.1:18789", "").netns = docker.ID
	st.advance(time.Second)
	for range sortOrders {
		if r := st.m.ports.row(); r.id() != at.id() {
			t.Errorf("sorted by %s the cursor is on %s", st.m.ports.order, r.place)
		}
		st.press("s")
	}
	st.press("enter")
	st.advance(time.Second)
	if f := st.script.focus; f == nil || f.NetNS != blue || f.Port != at.port {
		t.Fatalf("the engine probes %+v", f)
	}
	expect(t, st, "Can 127.0.0.1:18789 in netns blue be bound?", "by a real bind", "python3 pid 2450")
	if st.sees("the gateway's port") {
		t.Error("the port of another namespace is called the gateway's")
	}
	st.press("x")
	st.advance(grace)
	expect(t, st, "Stop python3 2450 on 18789 in netns blue?")
	st.press("esc", "r")
	st.advance(grace)
	expect(t, st, "Free 18789 in netns blue?", "SIGTERM to python3 2450")
	st.press("y")
	st.advance(3 * time.Second)
	expect(t, st, "Reclaim 18789 in netns blue", "done in")
	if s, _ := st.m.past.of(at.id()).when(st.now); s.bind != netstate.Yes || s.listen != 0 {
		t.Errorf("its past ends with %+v", s)
	}
	if s, _ := st.m.past.of(placeID{port: at.port}).when(st.now); s.bind != netstate.No || s.listen != 1 {
		t.Errorf("the past of the gateway's port ends with %+v", s)
	}
	st.press("esc")
	st.advance(0)
	if st.m.page != onPort || st.m.port.id() != at.id() {
		t.Errorf("esc after the run went to %s", st.m.port.place)
	}
	// R is the gateway's key on this page too.
	st.press("R")
	st.advance(grace)
	expect(t, st, "Free 18789 and start the gateway?")
}

func TestNamespaceFilter(t *testing.T) {
	for filter, want := range map[string][]string{
		"blue":       {"18789 in netns blue"},
		"docker 844": {"8443 in netns docker 3f2a61c09b1e"},
		"3f2a bound": {"18789 in netns docker 3f2a61c09b1e"},
		"podman":     {"6379"}, // a container in berth's own namespace
	} {
		st := spaced(t, opts())
		st.press("n")
		st.advance(0)
		st.press("/")
		st.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(filter), Paste: true})
		if got := st.places(); !slices.Equal(got, want) {
			t.Errorf("filter %q: %v, want %v", filter, got, want)
		}
	}
}

// TestOneNamespace: a namespace that berth was started for is shown alone, but
// for the gateway, and n comes back to it.
func TestOneNamespace(t *testing.T) {
	o := opts()
	o.Reach = Reach{NetNS: docker}
	st := spaced(t, o)
	want := []string{"18789", "18789 in netns docker 3f2a61c09b1e", "8443 in netns docker 3f2a61c09b1e"}
	if got := st.places(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	st.press("n")
	st.advance(0)
	if n := len(st.places()); n <= len(want) {
		t.Errorf("all: %d rows", n)
	}
	st.find(place{port: 22})
	st.press("enter", "esc") // a port that was asked for, and is not to be shown below
	st.press("n")
	st.advance(0)
	if got := st.places(); !slices.Equal(got, want) {
		t.Errorf("afterwards: %v, want %v", got, want)
	}
	o.Port = 8443
	st = spaced(t, o)
	st.advance(time.Second)
	expect(t, st, "Can 127.0.0.1:8443 in netns docker 3f2a61c09b1e be bound?", "nginx pid 2201", "inside  docker 3f2a61c09b1e")
	o.Reach = Reach{All: true}
	st = spaced(t, o)
	want = []string{"8443 in netns docker 3f2a61c09b1e"}
	if got := st.places(); st.m.page != onPorts || !slices.Equal(got, want) {
		t.Errorf("port 8443 of all namespaces: %v, want %v", got, want)
	}
	st.press("esc", "n")
	st.advance(0)
	if st.script.reach != (Reach{}) {
		t.Errorf("n leads to %+v, want berth's own", st.script.reach)
	}
}

// TestNamespaceEnds: the page of a port outlives its namespace, and says so.
func TestNamespaceEnds(t *testing.T) {
	o := opts()
	o.Reach, o.Port = Reach{NetNS: blue}, netstate.DefaultPort
	st := spaced(t, o)
	st.advance(time.Second)
	expect(t, st, "in netns blue cannot be bound")
	st.script.spaces = nil
	st.advance(time.Second)
	expect(t, st, "netns blue has ended")
	st.press("x", "tab", "j", "G")
	expect(t, st, "no process that you may see holds port 18789 in netns blue")
}

// TestUnwatchedNamespace: what happened while nobody looked is not known.
func TestUnwatchedNamespace(t *testing.T) {
	st := spaced(t, opts())
	id := place{docker, 8443}.id()
	st.press("n")
	st.advance(5 * time.Second)
	seen := st.now.Add(-time.Second)
	st.press("n")
	st.advance(5 * time.Second)
	if s, ok := st.m.past.of(id).when(seen); !ok || s.listen != 1 {
		t.Errorf("while it was shown: %+v, %v", s, ok)
	}
	if s, ok := st.m.past.of(id).when(st.now); ok {
		t.Errorf("while it was not: %+v", s)
	}
	st.press("n")
	st.advance(time.Second)
	if s, ok := st.m.past.of(id).when(st.now); !ok || s.listen != 1 {
		t.Errorf("now that it is again: %+v, %v", s, ok)
	}
}

func TestWhoIn(t *testing.T) {
	nginx := netstate.Holder{ID: netstate.ProcessID{PID: 4211}, Name: "nginx", User: "root", Container: "docker 3f2a61c09b1e"}
	for _, c := range []struct {
		w    int
		want string
	}{
		{99, "nginx 4211 (root, docker 3f2a61c09b1e)"}, {38, "nginx 4211 (root, docker 3f2a61c09b1e)"},
		{37, "nginx 4211 (docker 3f2a61c09b1e)"}, {31, "nginx 4211 (docker)"}, {18, "nginx 4211"}, {7, "nginx …"},
	} {
		if got := whoIn(nginx, "ada", c.w, false); got != c.want {
			t.Errorf("in %d cells: %q, want %q", c.w, got, c.want)
		}
	}
	for _, c := range []struct {
		ns   netns.Namespace
		w    int
		want string
	}{
		{netns.Namespace{}, 9, "-"}, {docker, 19, "docker 3f2a61c09b1e"}, {docker, 18, "3f2a61c09b1e"}, {docker, 9, "3f2a61c0…"},
		{blue, 9, "blue"}, {netns.Namespace{ID: 7}, 9, "net:[7]"},
	} {
		if got := namespace(c.ns, c.w, false); got != c.want {
			t.Errorf("%+v in %d cells: %q, want %q", c.ns, c.w, got, c.want)
		}
	}
}
