//go:build amd64 || arm64

package bindnotify

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
)

func TestSupportedHere(t *testing.T) {
	s := support()
	if errors.Is(s.Err, errors.ErrUnsupported) || errors.Is(s.Err, fs.ErrPermission) || errors.Is(s.Err, unix.EBUSY) {
		t.Skip("this machine does not allow it: ", s.Err)
	}
	if s.Err != nil || !s.Watch || !s.Hold || !s.HandOver {
		t.Errorf("%+v", s)
	}
	if root := syscall.Geteuid() == 0; root == s.NoNewPrivs {
		t.Errorf("no_new_privs is %v, and root is %v", s.NoNewPrivs, root)
	}
}

func TestSupportedUnprivileged(t *testing.T) {
	needSupport(t)
	if syscall.Geteuid() != 0 {
		t.Skip("is unprivileged already")
	}
	cmd := role("supported")
	const nobody = 65534
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "true true true true <nil>" {
		t.Errorf("%s, %v", out, err)
	}
}

// TestSupportedLess: what does not work is known beforehand, with its reason.
func TestSupportedLess(t *testing.T) {
	needSupport(t)
	for name, c := range map[string]struct {
		cmd  *exec.Cmd
		want string
	}{
		"pidfd_getfd": {role("forbid", strconv.Itoa(unix.SYS_PIDFD_GETFD)), "true false false "},
		"seccomp":     {role("forbid", strconv.Itoa(unix.SYS_SECCOMP)), "false false false "},
	} {
		out, err := c.cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), c.want) || strings.Contains(string(out), "<nil>") {
			t.Errorf("%s: %s, %v", name, out, err)
		}
		t.Logf("%s: %s", name, out)
	}
	// Under such a filter there can be no second one.
	cmd := role("supported")
	var out strings.Builder
	cmd.Stdout = &out
	tree, err := Start(t.Context(), cmd, Config{})
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	<-tree.Done()
	if !strings.HasPrefix(out.String(), "false false false ") || !strings.Contains(out.String(), "only one") {
		t.Error(out.String())
	}
}

func TestWatch(t *testing.T) {
	lab.NeedNamespace(t)
	listen(t, "127.0.0.1:2000")
	p := startBinder(t, role("binder"), Config{})
	p.do("ok", "socket a")
	p.do("EADDRINUSE", "bind a 127.0.0.1:2000")
	e := p.event(KindBind)
	if e.Errno != unix.EADDRINUSE || e.How != HowMade || e.Call.Addr.String() != "127.0.0.1:2000" || e.Call.PID != p.cmd.Process.Pid {
		t.Errorf("%+v", e)
	}
	p.do("ok", "setoption a %d %d 1", unix.SOL_SOCKET, unix.SO_REUSEADDR)
	p.do("ok", "bind a 127.0.0.1:2001")
	e = p.event(KindBind)
	if e.Errno != 0 || !e.Call.Options || !e.Call.ReuseAddr || e.Call.ReusePort || e.Call.Family != netstate.INET || e.Call.Program == "" {
		t.Errorf("%+v", e)
	}
	p.do("ok", "listen a 7")
	e = p.event(KindListen)
	if e.Errno != 0 || e.Call.Backlog != 7 || e.Call.Addr.String() != "127.0.0.1:2001" {
		t.Errorf("%+v", e)
	}
	p.do("EINVAL", "bind a 127.0.0.1:2002")
	if e = p.event(KindBind); e.Errno != unix.EINVAL {
		t.Errorf("%+v", e)
	}
	p.do("ok", "socket b 6")
	p.do("ok", "bind b [::1]:2003")
	if e = p.event(KindBind); e.Call.Addr.String() != "[::1]:2003" || e.Call.Family != netstate.INET6 {
		t.Errorf("%+v", e)
	}
	p.do("ok", "socket c 6")
	p.do("EADDRNOTAVAIL", "bind c [2001:db8::1]:2004")
}

func TestProgramsThatCannotStart(t *testing.T) {
	needSupport(t)
	for name, want := range map[string]error{"/nonexistent/program": fs.ErrNotExist, "/etc/passwd": fs.ErrPermission} {
		_, err := Start(t.Context(), exec.Command(name), Config{})
		var path *fs.PathError
		if !errors.Is(err, want) || !errors.As(err, &path) || path.Path != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Start(t.Context(), exec.Command("no-such-program-anywhere"), Config{}); !errors.Is(err, exec.ErrNotFound) {
		t.Error(err)
	}
}

func TestHold(t *testing.T) {
	lab.NeedNamespace(t)
	ln, _, _ := listen(t, "127.0.0.1:2010")
	wake := make(chan struct{}, 1)
	p := startBinder(t, role("binder"), Config{Hold: Hold{For: time.Minute, Ports: []uint16{2010},
		Wake: func(context.Context, uint16) <-chan struct{} { return wake }}})
	p.do("ok", "socket a")
	p.say("bind a 127.0.0.1:2010")
	if e := p.event(KindHeld); e.Errno != unix.EADDRINUSE {
		t.Errorf("%+v", e)
	}
	ln.Close()
	wake <- struct{}{}
	if got := p.hear(); got != "ok" {
		t.Error(got)
	}
	if e := p.event(KindBind); e.Errno != 0 || e.Waited == 0 {
		t.Errorf("%+v", e)
	}
}

func TestHoldEnds(t *testing.T) {
	lab.NeedNamespace(t)
	listen(t, "127.0.0.1:2020")
	hold := Hold{For: time.Minute, Ports: []uint16{2020}}
	t.Run("abandoned", func(t *testing.T) {
		p := startBinder(t, role("binder"), Config{Hold: hold})
		p.do("ok", "socket a")
		p.say("bind a 127.0.0.1:2020")
		p.event(KindHeld)
		p.tree.Abandon()
		if got := p.hear(); got != "EADDRINUSE" {
			t.Error(got)
		}
		if e := p.event(KindBind); e.How != HowAbandoned {
			t.Errorf("%+v", e)
		}
	})
	t.Run("limit", func(t *testing.T) {
		short := hold
		short.For = time.Millisecond
		p := startBinder(t, role("binder"), Config{Hold: short})
		p.do("ok", "socket a")
		p.do("EADDRINUSE", "bind a 127.0.0.1:2020")
	})
	t.Run("killed", func(t *testing.T) {
		p := startBinder(t, role("binder"), Config{Hold: hold})
		p.do("ok", "socket a")
		p.say("bind a 127.0.0.1:2020")
		p.event(KindHeld)
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait()
		select {
		case <-p.tree.Done():
		case <-time.After(10 * time.Second):
			t.Error("the tree does not end")
		}
	})
}

func TestHandOver(t *testing.T) {
	lab.NeedNamespace(t)
	ln, h, s := listen(t, "127.0.0.1:2030")
	sockets := &Sockets{}
	defer sockets.Close()
	if err := sockets.Adopt(h, s); err != nil {
		t.Fatal(err)
	}
	// The old server goes, and a client comes before the new one.
	ln.Close()
	client, err := net.Dial("tcp", "127.0.0.1:2030")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	p := startBinder(t, role("binder"), Config{Sockets: sockets})
	p.do("ok", "socket a")
	p.do("ok", "setoption a %d %d 1", unix.IPPROTO_TCP, unix.TCP_NODELAY)
	p.do("ok", "setoption a %d %d 1", unix.SOL_SOCKET, unix.SO_KEEPALIVE)
	p.do("ok", "setoption a %d %d 77", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
	p.do("ok", "setoption a %d %d 65536", unix.SOL_SOCKET, unix.SO_RCVBUF)
	p.do("ok", "bind a 127.0.0.1:2030")
	if e := p.event(KindBind); e.How != HowGiven || e.Errno != 0 {
		t.Errorf("%+v", e)
	}
	p.do("ok", "listen a 5")
	p.event(KindListen)
	p.do("127.0.0.1:2030", "name a")
	p.do("1", "option a %d %d", unix.IPPROTO_TCP, unix.TCP_NODELAY)
	p.do("77", "option a %d %d", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
	p.do("131072", "option a %d %d", unix.SOL_SOCKET, unix.SO_RCVBUF)
	p.do("nonblock=false cloexec=true", "flags a")
	p.do("ok", "accept a")
	if got, err := io.ReadAll(client); string(got) != "served" {
		t.Errorf("%q, %v", got, err)
	}
	if sockets.Left() != 0 {
		t.Error("it does not count as used")
	}
	// Once it is let go of here, the socket ends with the program.
	sockets.Close()
	p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	if _, err := net.Dial("tcp", "127.0.0.1:2030"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Error(err)
	}
}

// TestHandOverOnlyOfTheSame: what is kept for another address is released, and
// the bind waits until it can be made.
func TestHandOverOnlyOfTheSame(t *testing.T) {
	lab.NeedNamespace(t)
	ln, h, s := listen(t, "127.0.0.1:2040")
	sockets := &Sockets{}
	defer sockets.Close()
	if err := sockets.Adopt(h, s); err != nil {
		t.Fatal(err)
	}
	p := startBinder(t, role("binder"), Config{Sockets: sockets, Hold: Hold{For: time.Minute}})
	p.do("ok", "socket a")
	p.say("bind a 0.0.0.0:2040")
	if e := p.event(KindHeld); e.Why == "" {
		t.Errorf("%+v", e)
	}
	ln.Close()
	if got := p.hear(); got != "ok" {
		t.Error(got)
	}
	if sockets.Len() != 0 {
		t.Error("a socket is kept that is in the way")
	}
}

// TestEpollKeepsItsSocket: a set that has the program's own socket in it
// would never report the other one.
func TestEpollKeepsItsSocket(t *testing.T) {
	lab.NeedNamespace(t)
	ln, h, s := listen(t, "127.0.0.1:2050")
	sockets := &Sockets{}
	defer sockets.Close()
	if err := sockets.Adopt(h, s); err != nil {
		t.Fatal(err)
	}
	p := startBinder(t, role("binder"), Config{Sockets: sockets, Hold: Hold{For: time.Minute}})
	p.do("ok", "socket a")
	p.do("ok", "epoll a")
	p.say("bind a 127.0.0.1:2050")
	p.event(KindHeld)
	ln.Close()
	if got := p.hear(); got != "ok" {
		t.Error(got)
	}
	if e := p.event(KindBind); e.How != HowMade {
		t.Errorf("%+v", e)
	}
}

func TestReusePortGroup(t *testing.T) {
	lab.NeedNamespace(t)
	const n = 3
	old := startBinder(t, role("binder"), Config{})
	sockets := &Sockets{}
	defer sockets.Close()
	addr := "127.0.0.1:2060"
	h := netstate.Holder{}
	var err error
	if h.ID, err = netstate.IdentifyProcess(old.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	open := func(p *talk) {
		for i := range n {
			name := string(rune('a' + i))
			p.do("ok", "socket %s", name)
			p.do("ok", "setoption %s %d %d 1", name, unix.SOL_SOCKET, unix.SO_REUSEPORT)
			p.do("ok", "bind %s %s", name, addr)
			p.do("ok", "listen %s 5", name)
		}
	}
	open(old)
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	snap, err := sys.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owners, err := sys.Owners(t.Context(), snap.Port(2060))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range snap.Port(2060) {
		if err := sockets.Adopt(owners.Of(&s)[0], &s); err != nil {
			t.Fatal(err)
		}
	}
	p := startBinder(t, role("binder"), Config{Sockets: sockets})
	open(p)
	if sockets.Len() != n || sockets.Left() != 0 {
		t.Errorf("%d of %d left", sockets.Left(), sockets.Len())
	}
	// One more joins the group as usual.
	p.do("ok", "socket z")
	p.do("ok", "setoption z %d %d 1", unix.SOL_SOCKET, unix.SO_REUSEPORT)
	p.do("ok", "bind z %s", addr)
}

func TestAdoptRefusesStrangers(t *testing.T) {
	needSupport(t)
	lab.NeedNamespace(t)
	_, h, s := listen(t, "127.0.0.1:2070")
	sockets := &Sockets{}
	for name, change := range map[string]func(*netstate.Holder, *netstate.Socket){
		"start":      func(h *netstate.Holder, _ *netstate.Socket) { h.ID.Start++ },
		"inode":      func(_ *netstate.Holder, s *netstate.Socket) { s.Inode++ },
		"descriptor": func(h *netstate.Holder, _ *netstate.Socket) { h.FD = 0 },
		"unknown":    func(h *netstate.Holder, _ *netstate.Socket) { h.FD = -1 },
	} {
		h, s := h, *s
		change(&h, &s)
		if err := sockets.Adopt(h, &s); err == nil || sockets.Len() != 0 {
			t.Errorf("%s: adopted", name)
		}
	}
}
