package cli

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/netstate/lab"
)

func init() {
	acts["hold"] = hold
	acts["serve"] = serve
}

// hold ADDR [deaf] listens on ADDR, says so, and ends when its standard input
// does. If it is deaf it ignores SIGTERM.
func hold(args []string) {
	if len(args) > 1 && args[1] == "deaf" {
		signal.Ignore(syscall.SIGTERM)
	}
	if _, err := lab.Listen(netip.MustParseAddrPort(args[0]), lab.Options{ReuseAddr: true}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("holding")
	io.Copy(io.Discard, os.Stdin)
}

// serve ADDR STATUS listens on ADDR as a server with SO_REUSEADDR does and, if
// it can, says so, waits for the end of its standard input and ends with
// STATUS. If it cannot, it says so in Go's words and ends with 1.
func serve(args []string) {
	if _, err := lab.Listen(netip.MustParseAddrPort(args[0]), lab.Options{ReuseAddr: true}); err != nil {
		fmt.Fprintf(os.Stderr, "listen tcp %s: %v\n", args[0], err)
		os.Exit(1)
	}
	fmt.Println("serving")
	io.Copy(io.Discard, os.Stdin)
	var status int
	fmt.Sscan(args[1], &status)
	os.Exit(status)
}

// self is the path by which this binary can be executed again, also by a user
// who may not enter its directory.
const self = "/proc/self/exe"

// process is one act that runs.
type process struct {
	*exec.Cmd
	stdin io.WriteCloser
	lines chan string // of both streams
	all   strings.Builder
	mu    sync.Mutex
}

// start starts an act. It is killed at the end of the test if it still runs.
func start(t *testing.T, act string, args ...string) *process {
	t.Helper()
	return startAs(t, os.Geteuid(), act, args...)
}

// startAs starts an act as another user, which only root can.
func startAs(t *testing.T, uid int, act string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(self, args...), lines: make(chan string, 1024)}
	p.Env = append(os.Environ(), actEnv+"="+act, "LC_ALL=C.UTF-8", "TERM=xterm", "NO_COLOR=1")
	if uid != os.Geteuid() {
		p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	var err error
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout, p.Stderr = w, w
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			p.mu.Lock()
			fmt.Fprintln(&p.all, s.Text())
			p.mu.Unlock()
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
		p.stdin.Close()
		r.Close()
	})
	return p
}

// await returns the first line that contains text.
func (p *process) await(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("it ended without saying %q; it said:\n%s", text, p.said())
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			t.Fatalf("it did not say %q; it said:\n%s", text, p.said())
		}
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all.String()
}

// end waits for the end and returns the status as a shell would.
func (p *process) end(t *testing.T) int {
	t.Helper()
	timeout := time.AfterFunc(20*time.Second, func() {
		t.Errorf("it does not end; it said:\n%s", p.said())
		p.Process.Kill()
		p.stdin.Close() // ends its command too, which has the other end
	})
	defer timeout.Stop()
	for range p.lines {
		// What it says to its end is kept by the reader.
	}
	p.Wait()
	status := p.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// finish ends its standard input and expects it to end well.
func (p *process) finish(t *testing.T) {
	t.Helper()
	p.stdin.Close()
	if status := p.end(t); status != 0 {
		t.Errorf("status %d; it said:\n%s", status, p.said())
	}
}

// signal sends a signal.
func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}
