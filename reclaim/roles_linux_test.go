package reclaim_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
	"berth/reclaim"
)

// The test binary plays every other process too: run with this variable it is
// not a test but the role that the value names, with words behind it.
const roleEnv = "BERTH_TEST_ROLE"

// roles never return before their standard input ends, unless they say so.
var roles = map[string]func(words []string){
	"hold":      hold,
	"inherited": inherited,
	"observe":   observe,
	"supervise": supervise,
	"vanish":    vanish,
	"free":      free,
	"reuse":     reuse,
	"connect":   connect,
}

func TestMain(m *testing.M) {
	if words := strings.Fields(os.Getenv(roleEnv)); len(words) > 0 {
		roles[words[0]](words[1:])
		os.Exit(0)
	}
	lab.Main(m)
}

func die(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// hold listens, says where, and behaves as the words say:
//
//	at=ADDR     listen there and not on a port that the kernel picks
//	mb=N        have that much memory, all of it used
//	stubborn    ignore the polite signals
//	plain       listen without SO_REUSEADDR
//	reuseport   listen with SO_REUSEPORT
//	closing     close every connection at once
//	drains      close the listener at SIGTERM and go on
//	fork        on SIGUSR1 start a child that shares the listener, and say its pid
//	two         have a second listener, and say where
//	session     start that child at once, in a session of its own
//	become=PATH on SIGUSR1 become another program that has the listener still
func hold(words []string) {
	set := map[string]string{"at": "127.0.0.1:0"}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		set[key] = value
	}
	has := func(key string) bool { _, ok := set[key]; return ok }
	if has("stubborn") {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	}
	if n, _ := strconv.Atoi(set["mb"]); n > 0 {
		memory, err := unix.Mmap(-1, 0, n<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		die(err)
		// A small page at a time, as a heap that has grown for days.
		die(unix.Madvise(memory, unix.MADV_NOHUGEPAGE))
		for i := 0; i < len(memory); i += os.Getpagesize() {
			memory[i] = 1
		}
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	lc.Control = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			if has("plain") {
				die(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0))
			}
			if has("reuseport") {
				die(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
			}
		})
	}
	ln, err := lc.Listen(context.Background(), "tcp", set["at"])
	die(err)
	child := func() {
		file, err := ln.(*net.TCPListener).File()
		die(err)
		cmd := role("inherited")
		cmd.Stdin, cmd.ExtraFiles = os.Stdin, []*os.File{file}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		die(cmd.Start())
		fmt.Println(cmd.Process.Pid)
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	fmt.Println(ln.Addr())
	if has("two") {
		second, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
		die(err)
		defer second.Close()
		fmt.Println(second.Addr())
	}
	if has("session") {
		child()
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if has("closing") {
				conn.Close() // the server closes first and keeps TIME-WAIT
			}
		}
	}()
	if has("drains") {
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		go func() {
			<-term
			ln.Close()
		}()
	}
	go func() {
		<-told
		if has("fork") {
			child()
		}
		if has("become") {
			file, err := ln.(*net.TCPListener).File()
			die(err)
			die(unix.Dup3(int(file.Fd()), 200, 0)) // without close-on-exec
			os.Setenv(roleEnv, "inherited")
			die(syscall.Exec(set["become"], []string{set["become"]}, os.Environ()))
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}

// inherited does nothing with a socket that it may have inherited.
func inherited([]string) {
	fmt.Println("inherited")
	io.Copy(io.Discard, os.Stdin)
}

// observe ADDR says so when it is refused, tries again without a pause, and
// says when it succeeded, by the machine's monotonic clock. It then ends.
func observe(words []string) {
	addr := netip.MustParseAddrPort(words[0])
	spec := netstate.NewBindSpec(addr.Addr(), addr.Port())
	if netstate.TryBind(spec).Bindable() {
		die(fmt.Errorf("%s is free already", addr))
	}
	fmt.Println("refused")
	for !netstate.TryBind(spec).Bindable() {
	}
	fmt.Println(monotonic())
}

func monotonic() int64 {
	var ts unix.Timespec
	die(unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return ts.Nano()
}

// supervise starts a holder, says where it listens and its pid, and starts it
// again there whenever it ends.
func supervise([]string) {
	at := "127.0.0.1:0"
	go func() {
		for first := true; ; first = false {
			cmd := role("hold at=" + at)
			// A process of its own end: it dies with this one.
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			stdin, err := cmd.StdinPipe()
			die(err)
			out, err := cmd.StdoutPipe()
			die(err)
			die(cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			die(err)
			if first {
				at = strings.TrimSpace(line)
				fmt.Println(at)
			}
			cmd.Wait()
			stdin.Close()
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}

// vanish starts a holder with its own standard streams and ends at once.
func vanish(words []string) {
	cmd := role("hold " + strings.Join(words, " "))
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
	die(cmd.Start())
}

// connect ADDR connects, says from where, and then what became of it.
func connect(words []string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	die(err)
	if len(words) > 1 {
		from := netip.MustParseAddrPort(words[1])
		die(unix.Bind(fd, &unix.SockaddrInet4{Addr: from.Addr().As4(), Port: int(from.Port())}))
	}
	to := netip.MustParseAddrPort(words[0])
	die(unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}))
	sa, err := unix.Getsockname(fd)
	die(err)
	fmt.Println(netip.AddrPortFrom(netip.AddrFrom4(sa.(*unix.SockaddrInet4).Addr), uint16(sa.(*unix.SockaddrInet4).Port)))
	_, err = unix.Read(fd, make([]byte, 1))
	fmt.Println(err)
	io.Copy(io.Discard, os.Stdin)
}

// free ADDR [fast] carries out a plan and stops at each event until it is told
// to go on by a line of its input.
func free(words []string) {
	addr := netip.MustParseAddrPort(words[0])
	sys, err := netstate.Open()
	die(err)
	k := reclaim.NewSystem(sys)
	policy := reclaim.DefaultPolicy()
	impatient(&policy)
	policy.Fast = len(words) > 1
	ctx := context.Background()
	v, err := k.Why(ctx, netstate.NewBindSpec(addr.Addr(), addr.Port()))
	die(err)
	in := bufio.NewReader(os.Stdin)
	fmt.Println("planned")
	in.ReadString('\n')
	die(reclaim.Run(ctx, k, reclaim.NewPlan(v, policy, reclaim.CurrentSelf(ctx)), func(e reclaim.Event) {
		fmt.Println(e.Kind)
		in.ReadString('\n')
	}))
	fmt.Println("done")
}

// reuse is the first process of a pid namespace. It says what is wrong.
func reuse([]string) {
	die(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	die(unix.Mount("proc", "/proc", "proc", 0, ""))
	sys, err := netstate.Open()
	die(err)
	k := reclaim.NewSystem(sys)
	ctx := context.Background()
	start := func(words string) (*exec.Cmd, io.Closer, string) {
		cmd := role(words)
		stdin, err := cmd.StdinPipe()
		die(err)
		out, err := cmd.StdoutPipe()
		die(err)
		die(cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		die(err)
		return cmd, stdin, strings.TrimSpace(line)
	}
	for _, held := range []bool{false, true} {
		old, _, at := start("hold")
		addr := netip.MustParseAddrPort(at)
		spec := netstate.NewBindSpec(addr.Addr(), addr.Port())
		v, err := k.Why(ctx, spec)
		die(err)
		plan := reclaim.NewPlan(v, reclaim.DefaultPolicy(), reclaim.CurrentSelf(ctx))
		var hold *reclaim.Held
		if held {
			hold = reclaim.Hold(k, plan)
		}
		die(old.Process.Kill())
		old.Wait()
		// Start times are compared to a hundredth of a second.
		time.Sleep(20 * time.Millisecond)
		pid := old.Process.Pid
		var stranger *exec.Cmd
		for range 100 { // this process's own threads take numbers too
			die(os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0))
			stranger, _, _ = start("inherited")
			if stranger.Process.Pid == pid {
				break
			}
			stranger.Process.Kill()
			stranger.Wait()
		}
		if stranger.Process.Pid != pid {
			fmt.Println("no process got the number", pid)
			continue
		}
		if !held {
			hold = reclaim.Hold(k, plan)
		}
		signals := 0
		err = hold.Run(ctx, func(e reclaim.Event) {
			if e.Kind == reclaim.EventSignal {
				signals++
			}
		})
		hold.Close()
		switch {
		case signals > 0:
			fmt.Println("a signal was sent")
		case held && err != nil:
			// What was held has ended, and the port is free without a signal.
			fmt.Println("held:", err)
		case !held && !errors.Is(err, reclaim.ErrStale):
			fmt.Println("not held:", err)
		}
		if err := alive(pid); err != nil {
			fmt.Println("the stranger was hit:", err)
		}
		stranger.Process.Kill()
		stranger.Wait()
	}
	fmt.Println("done")
}

// role is this binary in a role.
func role(words string) *exec.Cmd {
	path, err := os.Executable()
	die(err)
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), roleEnv+"="+words)
	cmd.Stderr = os.Stderr
	return cmd
}

// player is a process in a role.
type player struct {
	*exec.Cmd
	pid   int
	stdin io.WriteCloser
	out   *bufio.Reader
}

// play starts a role. It ends with the test.
func play(t testing.TB, words string, change ...func(*exec.Cmd)) *player {
	t.Helper()
	p := &player{Cmd: role(words)}
	for _, c := range change {
		c(p.Cmd)
	}
	var err error
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(stdout)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = p.Process.Pid
	t.Cleanup(p.end)
	return p
}

func (p *player) end() {
	if p.ProcessState == nil {
		p.stdin.Close()
		p.Process.Kill()
		p.Wait()
	}
}

// alive is an error if the process has ended, also if nobody has waited for it.
func (p *player) alive() error { return alive(p.pid) }

func alive(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	if _, rest, _ := strings.Cut(string(b), ") "); strings.HasPrefix(rest, "Z") {
		return fmt.Errorf("%d has ended", pid)
	}
	return nil
}

// line returns the next line that it says.
func (p *player) line(t testing.TB) string {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the other process says nothing more: %v", err)
	}
	return strings.TrimSpace(line)
}

func (p *player) number(t testing.TB) int {
	t.Helper()
	n, err := strconv.Atoi(p.line(t))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// spec is the bind of the address that it says.
func (p *player) spec(t testing.TB) netstate.BindSpec {
	t.Helper()
	addr, err := netip.ParseAddrPort(p.line(t))
	if err != nil {
		t.Fatal(err)
	}
	return netstate.NewBindSpec(addr.Addr(), addr.Port())
}

// holder starts a holder and returns the bind that it refuses.
func holder(t testing.TB, words string) (*player, netstate.BindSpec) {
	t.Helper()
	p := play(t, "hold "+words)
	return p, p.spec(t)
}
