package ui

import (
	"net/netip"
	"time"

	"github.com/charmbracelet/x/ansi"

	"berth/netstate"
	"berth/ui/theme"
)

// Scene is a part of the program as pictures: the real Model on a scripted
// machine, driven by keys and by a clock of its own. The same scenes are the
// README's pictures and the tests' goldens.
type Scene struct {
	Name, Title   string
	Width, Height int
	Frames        []Frame // one frame is a still
}

// Frame is a screen and how long it stands.
type Frame struct {
	View string
	Hold time.Duration
}

// plain takes the styles away.
func plain(view string) string { return ansi.Strip(view) }

// Scenes plays all scenes.
func Scenes() []Scene {
	look := theme.ANSI()
	return []Scene{
		still("overview", "The overview: every port, and why it can be bound or not", 100, 30, look),
		still("port", "A port's page: the verdict, the holder, the countdowns", 100, 30, look),
		still("reclaim-dialog", "The dialog: what will happen, Cancel first", 100, 30, look),
		still("reclaim-running", "Waiting until the port can be bound", 100, 30, look),
		still("gateway", "The gateway: attempts and output", 100, 30, look),
		still("handover", "A hand-over: the listening socket goes on to the new server", 100, 30, look),
		still("overview-narrow", "The overview in 60 columns", 60, 20, look),
		forceRestart(100, 30, look),
	}
}

// scripts are the ways to the pages, by the name of the scene.
var scripts = map[string]func(*stage){
	"overview":        func(*stage) {},
	"overview-narrow": func(*stage) {},
	"port": func(st *stage) {
		st.press("enter")
		st.advance(2 * time.Second)
	},
	"reclaim-dialog": func(st *stage) {
		st.press("R")
		st.advance(grace)
	},
	"reclaim-running": func(st *stage) {
		st.press("R")
		st.advance(grace)
		st.press("y")
		st.advance(2300 * time.Millisecond)
	},
	"gateway": func(st *stage) {
		st.press("R")
		st.advance(grace)
		st.press("y")
		st.advance(9 * time.Second)
		st.press("2")
	},
	"handover-dialog": func(st *stage) {
		st.press("H")
		st.advance(grace)
	},
	"handover-running": func(st *stage) {
		st.script.boot = 4 * time.Second
		st.press("H")
		st.advance(grace)
		st.press("y")
		st.advance(2300 * time.Millisecond)
	},
	"handover": func(st *stage) {
		st.press("H")
		st.advance(grace)
		st.press("y")
		st.advance(3 * time.Second)
	},
	"help": func(st *stage) { st.press("?") },
}

// still plays the way to a page and takes one picture.
func still(name, title string, w, h int, look theme.Theme) Scene {
	st := perform(name, w, h, look)
	defer st.close()
	return Scene{Name: name, Title: title, Width: w, Height: h, Frames: []Frame{{View: st.view(), Hold: time.Second}}}
}

func perform(name string, w, h int, look theme.Theme) *stage {
	st := newStage(machine(), Options{
		Theme: look, Hostname: "dev-7", Kernel: "linux 6.18", Version: "0.1.0", User: "ada",
	}, w, h)
	st.advance(34 * time.Second) // a past for the sparklines
	scripts[name](st)
	return st
}

// forceRestart is the product in one film: R, y, LISTEN hands over to
// TIME-WAIT, the bind turns from refused to bindable, the gateway serves.
func forceRestart(w, h int, look theme.Theme) Scene {
	st := perform("overview", w, h, look)
	defer st.close()
	st.script.exitAfter, st.script.boot = 900*time.Millisecond, 600*time.Millisecond
	st.hold(1500*time.Millisecond, 0)
	st.press("R")
	st.hold(2500*time.Millisecond, time.Second)
	st.press("y")
	st.record(6*time.Second, fast)
	st.hold(3*time.Second, 0)
	return Scene{Name: "force-restart", Title: "Force-restart in one key", Width: w, Height: h, Frames: st.film}
}

// machine is a developer's machine on an ordinary afternoon. A gateway listens
// with three clients; a client of something else went out from the gateway's
// port not long ago, and what it left behind is what refuses the bind after
// the gateway has gone.
func machine() *script { return machineAt(time.Date(2026, 11, 23, 14, 2, 11, 0, time.UTC)) }

func machineAt(start time.Time) *script {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	s := newScript(start, GatewayInfo{
		Spec:    netstate.BindSpec{Addr: loopback, Family: netstate.INET, Port: netstate.DefaultPort, ReuseAddr: true, UID: 1000},
		Command: []string{"openclaw", "gateway", "run", "--port", "18789"},
		Dir:     "~/app", Log: "~/.local/state/berth/gateway-18789.log",
		Retries: 4, Interval: 500 * time.Millisecond,
	})
	process := func(pid int, name, user string, uid int, up time.Duration, parents []netstate.Parent, cmd ...string) {
		s.procs[pid] = netstate.Holder{
			ID: netstate.ProcessID{PID: pid, Start: uint64(pid)}, Name: name, User: user, UID: uid,
			Cmdline: cmd, Cwd: "/", Started: start.Add(-up), Parents: parents,
		}
	}
	shell := []netstate.Parent{{PID: 4102, Name: "bash"}, {PID: 3980, Name: "tmux: server"}}
	boot := []netstate.Parent{{PID: 1, Name: "systemd"}}
	process(4211, "node", "ada", 1000, 134*time.Minute, shell, "openclaw", "gateway", "run", "--port", "18789")
	process(812, "postgres", "postgres", 26, 76*time.Hour, boot, "/usr/lib/postgresql/17/bin/postgres", "-D", "/var/lib/postgresql/17/main")
	process(640, "sshd", "root", 0, 76*time.Hour, boot, "sshd: /usr/sbin/sshd -D")
	process(5102, "vite", "ada", 1000, 12*time.Minute, shell, "node", "node_modules/.bin/vite", "--port", "5173")
	process(3307, "python3", "ada", 1000, 41*time.Minute, shell, "python3", "worker.py", "--bind", "9229")
	gateway := s.procs[4211]
	gateway.Cwd = "~/app"
	s.procs[4211] = gateway

	s.add(netstate.Listen, 4211, "127.0.0.1:18789", "").SendQ = 511
	for i, remote := range []string{"127.0.0.1:59002", "127.0.0.1:59004", "127.0.0.1:59008"} {
		s.add(netstate.Established, 4211, "127.0.0.1:18789", remote).from = start.Add(time.Duration(6+9*i) * time.Second)
	}
	for i := range 12 {
		k := s.linger("127.0.0.1:18789", netip.AddrPortFrom(loopback, uint16(58890+4*i)).String(), 0)
		k.from = start.Add(time.Duration(i*i) * 230 * time.Millisecond)
		k.until = k.from.Add(60 * time.Second)
	}
	// The outgoing connection: its own end is the gateway's port, and its
	// program had set no SO_REUSEADDR.
	out := s.linger("127.0.0.1:18789", "127.0.0.1:5432", 37*time.Second)
	out.ReuseAddr = netstate.No

	for i := range 4 {
		s.linger("127.0.0.1:8080", netip.AddrPortFrom(loopback, uint16(41200+2*i)).String(), time.Duration(41+5*i)*time.Second).ReuseAddr = netstate.No
	}
	s.add(netstate.Bound, 3307, "127.0.0.1:9229", "").ReuseAddr = netstate.No
	s.add(netstate.Listen, 812, "127.0.0.1:5432", "")
	for i := range 9 {
		s.add(netstate.Established, 812, "127.0.0.1:5432", netip.AddrPortFrom(loopback, uint16(44100+2*i)).String())
	}
	s.add(netstate.Listen, 5102, "127.0.0.1:5173", "")
	s.add(netstate.Established, 5102, "127.0.0.1:5173", "127.0.0.1:47112")
	s.add(netstate.CloseWait, 5102, "127.0.0.1:5173", "127.0.0.1:47100")
	s.linger("127.0.0.1:3000", "127.0.0.1:42310", 42*time.Second)
	s.add(netstate.Listen, 640, "0.0.0.0:22", "")
	s.add(netstate.Established, 640, "10.0.0.7:22", "10.0.0.2:50114")
	for i := range 31 {
		s.add(netstate.Established, 0, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.7"), uint16(40002+12*i)).String(), "140.82.121.4:443").Inode = uint64(90000 + i)
	}
	s.hidden, s.caps.AllHolders = 2, false
	return s
}
