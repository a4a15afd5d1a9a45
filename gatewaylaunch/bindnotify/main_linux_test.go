//go:build amd64 || arm64

package bindnotify

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
)

// The tests start real programs: this test binary again, with a role and its
// arguments as the command line.
const roleEnv = "BINDNOTIFY_ROLE"

func TestMain(m *testing.M) {
	if status, ok := Shim(); ok {
		os.Exit(status)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	if name, ok := os.LookupEnv(roleEnv); ok {
		os.Exit(roles[name](os.Args[1:]))
	}
	lab.Main(m)
}

var roles map[string]func([]string) int

func init() {
	roles = map[string]func([]string) int{
		"binder":    roleBinder,
		"launch":    roleLaunch,
		"supported": roleSupported,
		"daemon":    roleDaemon,
		"forbid":    roleForbid,
	}
}

func role(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(self(), args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	return cmd
}

// roleBinder does what the lines of its standard input say, with sockets that
// it names by letters, and answers each with a line: the errno's name or "ok".
//
//	socket a | bind a 127.0.0.1:80 | listen a 5 | reuseport a | epoll a |
//	accept a | name a | option a LEVEL NAME | setoption a LEVEL NAME VALUE | flags a
func roleBinder([]string) int {
	fds := map[string]int{}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		w := strings.Fields(lines.Text())
		n := func(i int) int { v, _ := strconv.Atoi(w[i]); return v }
		fd, answer := fds[w[1]], "ok"
		var err error
		switch w[0] {
		case "socket":
			family := unix.AF_INET
			if len(w) > 2 && w[2] == "6" {
				family = unix.AF_INET6
			}
			fds[w[1]], err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		case "bind":
			err = unix.Bind(fd, sockaddrOf(netip.MustParseAddrPort(w[2])))
		case "listen":
			err = unix.Listen(fd, n(2))
		case "epoll":
			var set int
			if set, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
				err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
			}
		case "accept":
			var conn int
			if conn, _, err = unix.Accept(fd); err == nil {
				_, err = unix.Write(conn, []byte("served"))
				unix.Close(conn)
			}
		case "name":
			var sa unix.Sockaddr
			if sa, err = unix.Getsockname(fd); err == nil {
				answer = fmt.Sprint(addrPortOf(sa))
			}
		case "option":
			var v int
			v, err = unix.GetsockoptInt(fd, n(2), n(3))
			answer = strconv.Itoa(v)
		case "setoption":
			err = unix.SetsockoptInt(fd, n(2), n(3), n(4))
		case "flags":
			var status, descriptor int
			status, err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			descriptor, _ = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			answer = fmt.Sprintf("nonblock=%v cloexec=%v", status&unix.O_NONBLOCK != 0, descriptor&unix.FD_CLOEXEC != 0)
		case "nonblock":
			err = unix.SetNonblock(fd, true)
		}
		if err != nil {
			answer = netstate.ErrnoName(err)
		}
		fmt.Println(answer)
	}
	return 0
}

func sockaddrOf(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// roleLaunch supervises a binder, which inherits its standard input and
// output, and says on standard error what it hears: launch hold|watch PORT.
func roleLaunch(args []string) int {
	port, _ := strconv.Atoi(args[1])
	config := Config{On: func(e Event) { fmt.Fprintln(os.Stderr, e.Kind, e.How) }}
	if args[0] == "hold" {
		config.Hold = Hold{For: time.Minute, Ports: []uint16{uint16(port)}}
	}
	cmd := role("binder")
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
	if _, err := Start(context.Background(), cmd, config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stderr, "started", cmd.Process.Pid)
	_ = cmd.Wait()
	return 0
}

func roleSupported([]string) int {
	s := Supported(context.Background())
	fmt.Println(s.Watch, s.Hold, s.HandOver, s.NoNewPrivs, s.Err)
	return 0
}

// roleForbid becomes "supported" where one call is refused, as a container's
// profile does it: forbid NUMBER.
func roleForbid(args []string) int {
	number, _ := strconv.Atoi(args[0])
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNR},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(number)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 1
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		fmt.Println(errno)
		return 1
	}
	os.Setenv(roleEnv, "supported")
	fmt.Println(syscall.Exec(self(), []string{"supported"}, os.Environ()))
	return 1
}

// roleDaemon leaves a binder in a session of its own and ends.
func roleDaemon([]string) int {
	cmd := role("binder")
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 1
	}
	return 0
}

// needSupport skips a test on a machine that cannot do this at all, such as a
// container with a strict profile; TestSupportedHere says why.
func needSupport(t *testing.T) {
	t.Helper()
	if s := support(); s.Err != nil {
		t.Skip("not possible here: ", s.Err)
	}
}

var support = sync.OnceValue(func() Support { return Supported(context.Background()) })

// talk is a program that does what it is told line by line.
type talk struct {
	t    *testing.T
	cmd  *exec.Cmd
	tree *Tree
	in   io.Writer
	out  *bufio.Reader
	// events are those of the tree so far.
	events chan Event
}

// startBinder starts a binder, or a program that ends up as one, under a tree.
func startBinder(t *testing.T, cmd *exec.Cmd, config Config) *talk {
	t.Helper()
	needSupport(t)
	p := &talk{t: t, cmd: cmd, events: make(chan Event, 1000)}
	stdin, childIn := pipe(t)
	childOut, stdout := pipeOut(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, stdout, os.Stderr
	p.in, p.out = stdin, bufio.NewReader(childOut)
	on := config.On
	config.On = func(e Event) {
		if on != nil {
			on(e)
		}
		p.events <- e
	}
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	p.tree, err = Start(ctx, cmd, config)
	childIn.Close()
	stdout.Close()
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		p.tree.Abandon()
		_ = cmd.Wait()
		<-p.tree.Done()
		cancel()
	})
	return p
}

func pipe(t *testing.T) (mine, theirs *os.File) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return w, r
}

func pipeOut(t *testing.T) (mine, theirs *os.File) {
	w, r := pipe(t)
	return r, w
}

// say gives an order and does not wait for its answer.
func (p *talk) say(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *talk) hear() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// do gives an order and expects its answer.
func (p *talk) do(want, format string, args ...any) {
	p.t.Helper()
	p.say(format, args...)
	if got := p.hear(); got != want {
		p.t.Fatalf("%s: %s, want %s", fmt.Sprintf(format, args...), got, want)
	}
}

// event returns the next event, which must be of the kind.
func (p *talk) event(kind Kind) Event {
	p.t.Helper()
	select {
	case e := <-p.events:
		if e.Kind != kind {
			p.t.Fatalf("got event %+v instead of %s", e, kind)
		}
		return e
	case <-time.After(10 * time.Second):
		p.t.Fatalf("no event %s", kind)
		panic("unreachable")
	}
}

// listen holds a port in this process and returns it as it would be found.
func listen(t *testing.T, addr string) (net.Listener, netstate.Holder, *netstate.Socket) {
	t.Helper()
	// Not MPTCP, so that what the new program gets is of its own protocol.
	config := net.ListenConfig{}
	config.SetMultipathTCP(false)
	ln, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	h := netstate.Holder{}
	if h.ID, err = netstate.IdentifyProcess(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	s := &netstate.Socket{Local: netip.MustParseAddrPort(ln.Addr().String()), State: netstate.Listen}
	if err := raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		if err := unix.Fstat(int(fd), &st); err != nil {
			t.Error(err)
		}
		h.FD, s.Inode = int(fd), st.Ino
	}); err != nil {
		t.Fatal(err)
	}
	return ln, h, s
}
