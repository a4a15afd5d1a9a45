//go:build unix

package gatewaylaunch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/mattn/go-isatty"

	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
)

// The tests start real gateways: this test binary again, with a helper's name
// and its arguments in the environment variable below.
const helperEnv = "GATEWAYLAUNCH_HELPER"

func TestMain(m *testing.M) {
	if status, ok := bindnotify.Shim(); ok {
		os.Exit(status)
	}
	if name, ok := os.LookupEnv(helperEnv); ok {
		os.Exit(helpers[name](os.Args[1:]))
	}
	// A program under the race detector waits a second before it exits.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// helperCommand is the command that runs a helper. Its program is found
// through /proc or the path that started this binary, so that also an
// unprivileged user can start it from a directory that it cannot enter.
func helperCommand(name string, args ...string) Command {
	exe := "/proc/self/exe"
	if _, err := os.Stat(exe); err != nil {
		exe, _ = os.Executable()
	}
	return Command{Argv: append([]string{helperEnv + "=" + name, exe}, args...)}
}

var helpers map[string]func(args []string) int

func init() {
	helpers = map[string]func(args []string) int{
		"serve":   helperServe,
		"hold":    helperHold,
		"say":     helperSay,
		"spawn":   helperSpawn,
		"env":     helperEnviron,
		"long":    helperLong,
		"stay":    helperStay,
		"demo":    helperDemo,
		"launch":  helperLaunch,
		"nobody":  helperNobody,
		"signals": helperSignals,
		"tied":    helperTied,
		"health":  helperHealth,
		"size":    helperSize,
		"stolid":  helperStolid,
		"http":    helperHTTP,
		"shuts":   helperShuts,
		"mute":    helperMute,
	}
}

func say(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// helperServe listens as a server written in Go does, says so and stays:
// serve ADDRESS…
func helperServe(args []string) int {
	for _, addr := range args {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return say(err)
		}
		defer ln.Close()
		fmt.Println("listening on", ln.Addr())
	}
	select {}
}

// helperMute binds as helperServe does, and does not say why it ends:
// mute ADDRESS.
func helperMute(args []string) int {
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return say(errors.New("the configuration is wrong"))
	}
	defer ln.Close()
	select {}
}

// helperHold listens and, when a line comes in, lets go after a while:
// hold ADDRESS DURATION.
func helperHold(args []string) int {
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return say(err)
	}
	fmt.Println("listening on", ln.Addr())
	after, err := time.ParseDuration(args[1])
	if err != nil {
		return say(err)
	}
	var line string
	_, _ = fmt.Scanln(&line)
	time.Sleep(after)
	return 0
}

// helperSay prints a line and exits: say STATUS LINE.
func helperSay(args []string) int {
	fmt.Fprintln(os.Stderr, args[1])
	status, _ := strconv.Atoi(args[0])
	return status
}

// helperSpawn starts another helper and exits or stays:
// spawn STATUS|stay session|detached HELPER ARGS….
func helperSpawn(args []string) int {
	c := helperCommand(args[2], args[3:]...)
	cmd := exec.Command(c.Argv[1], c.Argv[2:]...)
	cmd.Env = c.environ()
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if args[1] == "detached" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	if err := cmd.Start(); err != nil {
		return say(err)
	}
	fmt.Println("spawned", cmd.Process.Pid)
	if args[0] == "stay" {
		_ = cmd.Wait()
		return 0
	}
	status, _ := strconv.Atoi(args[0])
	return status
}

func helperEnviron([]string) int {
	for _, kv := range os.Environ() {
		fmt.Println(kv)
	}
	return 0
}

// helperLong prints 1 MiB without a newline, then a short line.
func helperLong([]string) int {
	fmt.Print(strings.Repeat("x", 1<<20))
	fmt.Print("\nshort\n")
	return 0
}

// helperStay ignores SIGTERM and stays: stay [quiet | until-eof].
func helperStay(args []string) int {
	signal.Ignore(syscall.SIGTERM)
	how := strings.Join(args, "")
	if how != "quiet" {
		fmt.Println("staying")
	}
	if how == "until-eof" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	select {}
}

// helperDemo runs a demo gateway: demo ADDRESS [noreuse] [until-eof].
func helperDemo(args []string) int {
	d := Demo{Addr: args[0]}
	for _, a := range args[1:] {
		switch a {
		case "noreuse":
			d.NoReuseAddr = true
		case "until-eof":
			d.UntilEOF = os.Stdin
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := d.Run(ctx, os.Stdout); err != nil {
		return say(err)
	}
	return 0
}

// helperHTTP serves HTTP as a server written in Go does, and ends gracefully at
// SIGTERM: http ADDRESS.
func helperHTTP(args []string) int {
	server := &http.Server{Addr: args[0], Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, os.Getpid())
	})}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return say(err)
	case <-ctx.Done():
	}
	_ = server.Shutdown(context.Background())
	return 0
}

// helperShuts listens until SIGTERM, shuts its listener down for all who share
// it, and ends a while later: shuts ADDRESS DURATION.
func helperShuts(args []string) int {
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return say(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return say(err)
	}
	_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RD) })
	after, _ := time.ParseDuration(args[1])
	time.Sleep(after)
	return 0
}

// helperSignals says which signals it gets and whether its output is a
// terminal, and ends on SIGTERM with status 7.
func helperSignals([]string) int {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	fmt.Printf("pid %d terminal %v\n", os.Getpid(), isatty.IsTerminal(os.Stdout.Fd()))
	for sig := range c {
		fmt.Println("got", sig)
		if sig == syscall.SIGTERM {
			return 7
		}
	}
	return 0
}

// helperLaunch is a small berth: it launches a helper in the foreground on
// the real machine. launch ADDRESS HELPER ARGS…
func helperLaunch(args []string) int {
	sys, err := netstate.Open()
	if err != nil {
		return say(err)
	}
	defer sys.Close()
	l := Launcher{
		Command: helperCommand(args[1], args[2:]...), Spec: specOf(args[0]),
		Retry: Retry{Retries: 2, Interval: 10 * time.Millisecond}, Kernel: NewKernel(sys), Foreground: true,
	}
	status, err := l.Run(context.Background(), func(e Event) { fmt.Fprintln(os.Stderr, "berth:", e.Kind) })
	if err != nil {
		say(err)
	}
	return status.Code
}

// helperTied launches a tied demo gateway in the background and says when it
// is ready: tied ADDRESS.
func helperTied(args []string) int {
	sys, err := netstate.Open()
	if err != nil {
		return say(err)
	}
	defer sys.Close()
	l := Launcher{Command: helperCommand("demo", args[0], "until-eof"), Spec: specOf(args[0]), Kernel: NewKernel(sys), Tie: true}
	_, err = l.Run(context.Background(), func(e Event) { fmt.Println(e.Kind) })
	return say(err)
}

// helperNobody becomes an ordinary user if it is root, and tries a port that
// such a user may not bind. It prints what an ordinary user gets.
func helperNobody(args []string) int {
	if os.Getuid() == 0 {
		const nobody = 65534
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			return say(err)
		}
	}
	sys, err := netstate.Open()
	if err != nil {
		return say(err)
	}
	defer sys.Close()
	ln, err := DefaultRetry().Listen(context.Background(), "tcp", args[0])
	fmt.Println("listen:", ln, errors.Is(err, syscall.EACCES), err)
	l := Launcher{Command: helperCommand("serve", args[0]), Spec: specOf(args[0]), Retry: DefaultRetry(), Kernel: NewKernel(sys)}
	attempts := 0
	_, err = l.Run(context.Background(), func(e Event) {
		if e.Kind == EventAttempt {
			attempts++
		}
	})
	var bind *BindError
	fmt.Println("launch:", attempts, errors.As(err, &bind), errors.Is(err, os.ErrPermission), err)
	return 0
}

// helperSize prints the size of its terminal, now and whenever it changes.
func helperSize([]string) int {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGWINCH)
	for {
		rows, cols, err := pty.Getsize(os.Stdin)
		if err != nil {
			return say(err)
		}
		fmt.Printf("size %dx%d\n", cols, rows)
		<-c
	}
}

// helperStolid starts a child that ignores everything polite, and refuses it
// with a word itself.
func helperStolid(args []string) int {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	signals := make(chan os.Signal, 8)
	if len(args) == 0 {
		c := helperCommand("stolid", "child")
		cmd := exec.Command(c.Argv[1], c.Argv[2:]...)
		cmd.Env = c.environ()
		if err := cmd.Start(); err != nil {
			return say(err)
		}
		signal.Notify(signals, syscall.SIGINT)
		fmt.Println("child", cmd.Process.Pid)
	}
	for range signals {
		fmt.Println("refusing")
	}
	return 0
}

// helperHealth serves over HTTP, is unwell for two requests and then well, and
// says how often it was asked: health ADDRESS.
func helperHealth(args []string) int {
	n := 0
	err := http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("asked for", r.URL)
		if n++; n <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintf(w, "{\"ok\": %t}\n", n > 3)
	}))
	return say(err)
}

func specOf(addr string) netstate.BindSpec {
	ap := netip.MustParseAddrPort(addr)
	return netstate.NewBindSpec(ap.Addr(), ap.Port())
}

// listenLoopback holds a free port of 127.0.0.1 until the test ends.
func listenLoopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// freeAddress returns an address of 127.0.0.1 that nobody holds.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln := listenLoopback(t)
	defer ln.Close()
	return ln.Addr().String()
}

// realKernel is this machine.
func realKernel(t *testing.T) Kernel {
	t.Helper()
	sys, err := netstate.Open()
	if err != nil {
		t.Skip("the socket table cannot be read here: ", err)
	}
	t.Cleanup(func() { sys.Close() })
	return NewKernel(sys)
}

// scripted is a machine whose answers a test makes up. A nil function answers
// that nothing is there.
type scripted struct {
	tryBind func(netstate.BindSpec) error
	why     func(netstate.BindSpec) netstate.Verdict
	read    func() (*netstate.Snapshot, error)
	owners  func([]netstate.Socket) *netstate.Owners
	wake    <-chan struct{}

	mu     sync.Mutex
	probes []netstate.BindSpec
	reads  []time.Time
}

func (k *scripted) TryBind(spec netstate.BindSpec) netstate.Probe {
	k.mu.Lock()
	k.probes = append(k.probes, spec)
	k.mu.Unlock()
	p := netstate.Probe{Spec: spec, At: time.Now()}
	if k.tryBind != nil {
		p.Err = k.tryBind(spec)
	}
	return p
}

func (k *scripted) Why(_ context.Context, spec netstate.BindSpec) (netstate.Verdict, error) {
	if k.why != nil {
		return k.why(spec), nil
	}
	p := k.TryBind(spec)
	return netstate.Explain(spec, &p, netstate.NewSnapshot(p.At, nil, netstate.Caps{}), nil), nil
}

func (k *scripted) Read(context.Context) (*netstate.Snapshot, error) {
	k.mu.Lock()
	k.reads = append(k.reads, time.Now())
	k.mu.Unlock()
	if k.read != nil {
		return k.read()
	}
	return netstate.NewSnapshot(time.Now(), nil, netstate.Caps{}), nil
}

func (k *scripted) Owners(_ context.Context, sockets []netstate.Socket) (*netstate.Owners, error) {
	if k.owners != nil {
		return k.owners(sockets), nil
	}
	return netstate.NewOwners(), nil
}

func (k *scripted) Wake(context.Context, netstate.BindSpec) <-chan struct{} { return k.wake }

// visit makes one connection.
func visit(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	c.Close()
}
