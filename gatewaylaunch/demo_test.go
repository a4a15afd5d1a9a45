//go:build unix

package gatewaylaunch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/netstate"
)

// demo is a demo gateway that runs in this process.
type demo struct {
	lines *lineReader
	end   func() error
}

func startDemo(t *testing.T, d Demo) demo {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := d.Run(ctx, w)
		w.CloseWithError(io.EOF)
		ended <- err
	}()
	g := demo{lines: &lineReader{Scanner: bufio.NewScanner(r)}}
	g.end = sync.OnceValue(func() error {
		cancel()
		go g.lines.rest()
		return <-ended
	})
	t.Cleanup(func() { _ = g.end() })
	return g
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestDemoAnswers(t *testing.T) {
	addr := freeAddress(t)
	g := startDemo(t, Demo{Addr: addr})
	if got, want := g.lines.until(t, "listening"), "demo gateway: listening on http://"+addr; got != want {
		t.Errorf("says %q, want %q", got, want)
	}
	if res, body := get(t, "http://"+addr+"/healthz"); res.StatusCode != 200 || strings.TrimSpace(body) != `{"ok":true,"status":"live"}` || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("/healthz: %s %q", res.Status, body)
	}
	if res, body := get(t, "http://"+addr+"/"); res.StatusCode != 200 || !strings.Contains(body, "demo gateway") {
		t.Errorf("/: %s %q", res.Status, body)
	}
	if res, _ := get(t, "http://"+addr+"/none"); res.StatusCode != 404 {
		t.Errorf("/none: %s", res.Status)
	}
	if err := g.end(); err != nil {
		t.Error(err)
	}
}

func TestDemoStreamEndsFromItsSide(t *testing.T) {
	k := realKernel(t)
	addr := freeAddress(t)
	g := startDemo(t, Demo{Addr: addr})
	g.lines.until(t, "listening")

	const n = 3
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	clients.Go(func() { DemoClients{Addr: addr, N: n, Pause: time.Minute}.Run(ctx) })
	g.lines.until(t, fmt.Sprintf("%d in all", n))
	start := time.Now()
	if err := g.end(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > demoShutdown/2 {
		t.Errorf("the demo took %v to end its streams", took)
	}
	// The clients answer the FIN at their own pace: look until they have.
	port := specOf(addr).Port
	for deadline := time.Now().Add(5 * time.Second); ; {
		snap, err := k.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var states []string
		for _, s := range snap.Port(port) {
			states = append(states, s.State.String())
		}
		if got := strings.Join(states, " "); got == "TIME-WAIT TIME-WAIT TIME-WAIT" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the port has %q, want one TIME-WAIT for each of %d clients", got, n)
		}
	}
	cancel()
	clients.Wait()
	// SO_REUSEADDR on both sides: the restart is not refused.
	startDemo(t, Demo{Addr: addr}).lines.until(t, "listening")
}

func TestDemoClientsComeBack(t *testing.T) {
	addr := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	clients.Go(func() { DemoClients{Addr: addr, N: 2, Pause: 5 * time.Millisecond}.Run(ctx) })
	for range 2 {
		g := startDemo(t, Demo{Addr: addr})
		g.lines.until(t, "2 in all")
		if err := g.end(); err != nil {
			t.Error(err)
		}
	}
	g := startDemo(t, Demo{Addr: addr})
	g.lines.until(t, "2 in all")
	cancel()
	clients.Wait()
	// Their end is a reset, so it leaves nothing on their own ports.
	g.lines.until(t, "0 in all")
}

func TestDemoWithoutReuseAddrBlocksItsRestart(t *testing.T) {
	addr := freeAddress(t)
	g := startDemo(t, Demo{Addr: addr, NoReuseAddr: true})
	g.lines.until(t, "listening")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /stream HTTP/1.1\r\nHost: %s\r\n\r\n", addr)
	g.lines.until(t, "1 in all")
	if err := g.end(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn) // to the demo's FIN
	conn.Close()
	for _, noReuse := range []bool{true, false} {
		err := Demo{Addr: addr, NoReuseAddr: noReuse}.Run(t.Context(), io.Discard)
		if !errors.Is(err, syscall.EADDRINUSE) || err.Error() != "listen tcp "+addr+": bind: address already in use" {
			t.Errorf("restart with NoReuseAddr %v: %v, want Go's own EADDRINUSE", noReuse, err)
		}
	}
}

func TestDemoUntilEOF(t *testing.T) {
	r, w := io.Pipe()
	g := startDemo(t, Demo{Addr: freeAddress(t), UntilEOF: r})
	g.lines.until(t, "listening")
	w.Close()
	g.lines.until(t, "ending")
	if err := g.end(); err != nil {
		t.Error(err)
	}
}

// A tied demo ends with the process that launched it, even by SIGKILL.
func TestTiedDemoNeverOutlivesItsLauncher(t *testing.T) {
	realKernel(t)
	addr := freeAddress(t)
	c := helperCommand("tied", addr)
	cmd := exec.CommandContext(t.Context(), c.Argv[1], c.Argv[2:]...)
	cmd.Env = c.environ()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	(&lineReader{Scanner: bufio.NewScanner(stdout)}).until(t, "ready")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /stream HTTP/1.1\r\nHost: %s\r\n\r\n", addr)
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("the demo serves on without its launcher")
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// The main job on real sockets: clients, an end by force, TIME-WAIT that
// truly blocks, and the launcher that says so instead of trying in vain.
func TestLaunchOverADemoWithoutReuseAddr(t *testing.T) {
	k := realKernel(t)
	addr := freeAddress(t)
	l := Launcher{Command: helperCommand("demo", addr, "noreuse"), Spec: specOf(addr), Retry: DefaultRetry(), Kernel: k}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	clients.Go(func() { DemoClients{Addr: addr, N: 4, Pause: 10 * time.Millisecond}.Run(ctx) })
	defer clients.Wait()
	defer cancel()

	ready, connected := false, false
	r := launch(t, l, func(e Event, stop func()) {
		ready = ready || e.Kind == EventReady
		connected = connected || strings.HasSuffix(e.Line, "4 in all")
		if ready && connected {
			stop()
		}
	})
	if got := r.kinds(); got != "attempt started ready stopped" || r.status.Code != 0 {
		t.Fatalf("events %s, status %v", got, r.status)
	}
	r = launch(t, l, nil)
	var inUse *InUseError
	if !errors.As(r.err, &inUse) || !inUse.TooLate || inUse.Attempts != 1 {
		t.Fatalf("error %v", r.err)
	}
	if v := inUse.Verdict; v.Reason != netstate.ReasonLingering || len(v.Blockers) == 0 || !v.Spec.ReuseAddr {
		t.Errorf("verdict %q with %d blockers", v.Summary, len(v.Blockers))
	}
}
