//go:build unix

package gatewaylaunch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"testing"
	"time"

	"berth/netstate"
)

// startHolder lets another process hold a free port until the returned
// function is called, and then for a while longer.
func startHolder(t *testing.T, after time.Duration) (addr string, pid int, release func()) {
	t.Helper()
	c := helperCommand("hold", "127.0.0.1:0", after.String())
	cmd := exec.Command(c.Argv[1], c.Argv[2:]...)
	cmd.Env = c.environ()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := fmt.Fscanf(stdout, "listening on %s\n", &addr); err != nil {
		t.Fatal(err)
	}
	return addr, cmd.Process.Pid, func() { stdin.Close() }
}

func TestRetryUntilTheHolderIsGone(t *testing.T) {
	addr, pid, release := startHolder(t, 1200*time.Millisecond)
	release()
	start := time.Now()
	r := launch(t, Launcher{Command: helperCommand("serve", addr), Spec: specOf(addr), Retry: DefaultRetry(), Kernel: realKernel(t)}, stopWhen(EventReady))
	// Nothing is started while the port is known to be taken.
	if got := r.kinds(); got != "held attempt started ready stopped" {
		t.Errorf("events %s", got)
	}
	if v := r.first(EventHeld).Verdict; v == nil || len(v.Holders()) != 1 || v.Holders()[0].ID.PID != pid {
		t.Errorf("the holder %d is not named: %+v", pid, v)
	}
	if at := r.first(EventHeld).At.Sub(start); at > time.Second {
		t.Errorf("it was named after %v", at)
	}
	// The event of the holder's end wakes the launch; a bare retry would
	// come at 1.5 s.
	if took := r.first(EventReady).At.Sub(start); took < 1200*time.Millisecond {
		t.Errorf("ready after %v, while the port was held", took)
	} else {
		t.Logf("ready %v after the holder's end", took-1200*time.Millisecond)
	}
}

func TestHeldForGood(t *testing.T) {
	addr, pid, _ := startHolder(t, 0)
	r := launch(t, Launcher{Command: helperCommand("serve", addr), Spec: specOf(addr), Retry: Retry{Retries: 2, Interval: 50 * time.Millisecond}, Kernel: realKernel(t)}, nil)
	var inUse *InUseError
	if !errors.As(r.err, &inUse) || inUse.Attempts != 1 || inUse.Elapsed < 100*time.Millisecond || r.status.Code != 1 || inUse.Said == "" {
		t.Fatalf("status %v, error %+v", r.status, inUse)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{addr, "after 1 attempt in", fmt.Sprintf("pid %d", pid), me.Username, "127.0.0.1:0"} {
		if !strings.Contains(r.err.Error(), part) {
			t.Errorf("error %q does not say %q", r.err, part)
		}
	}
	if inUse.Hint() == "" {
		t.Error("no hint")
	}
	if got := r.kinds(); got != "held attempt started exited in-use failed" {
		t.Errorf("events %s", got)
	}
}

func TestHolderOfAnotherAddressIsNamed(t *testing.T) {
	// The expected bind of 127.0.0.1 is free, yet the server takes every
	// address and is refused because of a listener on 127.0.0.2.
	holder, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("127.0.0.2 cannot be bound here: ", err)
	}
	defer holder.Close()
	port := specOf(holder.Addr().String()).Port
	r := launch(t, Launcher{
		Command: helperCommand("serve", fmt.Sprintf("0.0.0.0:%d", port)),
		Spec:    netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port), Kernel: realKernel(t),
	}, nil)
	var inUse *InUseError
	if !errors.As(r.err, &inUse) {
		t.Fatalf("error %v", r.err)
	}
	if hs := inUse.Verdict.Holders(); !inUse.Verdict.Spec.Addr.IsUnspecified() || len(hs) != 1 || hs[0].ID.PID != os.Getpid() {
		t.Errorf("verdict for %v names %+v", inUse.Verdict.Spec, hs)
	}
}

func TestTimeWaitAgainstAServerWithoutReuseAddr(t *testing.T) {
	// The server is the first to close, so its end lingers.
	ln := listenLoopback(t)
	addr := ln.Addr().String()
	leaveTimeWait(t, ln)
	ln.Close()
	r := launch(t, Launcher{Command: helperCommand("demo", addr, "noreuse"), Spec: specOf(addr), Retry: DefaultRetry(), Kernel: realKernel(t)}, nil)
	var inUse *InUseError
	if !errors.As(r.err, &inUse) || inUse.Attempts != 1 || !inUse.TooLate {
		t.Fatalf("error %+v: %v", inUse, r.err)
	}
	if v := inUse.Verdict; v.Reason != netstate.ReasonLingering || v.Spec.ReuseAddr || !v.Clears.Known() || time.Until(v.Clears.From) < 50*time.Second {
		t.Errorf("verdict %+v", v)
	}
	// The same server with SO_REUSEADDR starts at once.
	r = launch(t, Launcher{Command: helperCommand("demo", addr), Spec: specOf(addr), Kernel: realKernel(t)}, stopWhen(EventReady))
	if got := r.kinds(); got != "attempt started ready stopped" {
		t.Errorf("events %s", got)
	}
}

// leaveTimeWait makes one connection to ln that ln's end closes first.
func leaveTimeWait(t *testing.T, ln net.Listener) {
	t.Helper()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Fatal("the server's end sent something")
	}
	client.Close()
}

func TestDeniedPort(t *testing.T) {
	c := helperCommand("nobody", "127.0.0.1:1")
	cmd := exec.Command(c.Argv[1], c.Argv[2:]...)
	cmd.Env = c.environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	listened, launched, _ := strings.Cut(string(out), "\n")
	if strings.HasPrefix(listened, "listen: &{") {
		t.Skip("every user may bind port 1 here (ip_unprivileged_port_start)")
	}
	if !strings.HasPrefix(listened, "listen: <nil> true listen tcp 127.0.0.1:1: bind: permission denied") {
		t.Errorf("Listen returned %q, want EACCES at once and unchanged", listened)
	}
	if !strings.HasPrefix(launched, "launch: 1 true true the gateway ended with status 1: 127.0.0.1:1 cannot be bound") {
		t.Errorf("Run returned %q, want a BindError after one attempt", launched)
	}
}
