package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/netstate/lab"
)

func init() { acts["hold-udp"] = holdUDP }

// holdUDP ADDR binds a UDP socket, says so, and ends with its standard input.
func holdUDP(args []string) {
	if _, err := net.ListenPacket("udp", args[0]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("holding")
	io.Copy(io.Discard, os.Stdin)
}

// startInside starts an act in another network namespace.
func startInside(t *testing.T, act string, args ...string) *process {
	t.Helper()
	lab.NeedNamespace(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN) to make and enter network namespaces")
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Release)
	var p *process
	// A process begins in the namespace of the thread that started it.
	if err := ns.Do(func() error {
		p = start(t, act, args...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.await(t, "holding")
	return p
}

func TestWhyInNetworkNamespace(t *testing.T) {
	port := fresh()
	p := startInside(t, "hold", "127.0.0.1:"+port)
	pid := strconv.Itoa(p.Process.Pid)
	berth(t, "why", port).is(t, 0, "127.0.0.1:"+port+" can be bound now.", "")
	berth(t, "why", port, "--netns", "all").is(t, 3, "127.0.0.1:"+port+" can be bound now.", "")
	r := berth(t, "why", port, "--netns", pid)
	r.is(t, 3, "127.0.0.1:"+port+" in netns ", "")
	r.is(t, 3, "(pid "+pid, "")

	v := berth(t, "why", port, "--netns", pid, "--json").object(t)
	if b := v["bind"].(map[string]any); b["netns"] == nil || v["evidence"] != "bind" || v["reason"] != "held" {
		t.Errorf("the answer is %v", v)
	}
	// The command that a cure proposes finds the namespace again.
	command := ""
	for _, c := range v["cures"].([]any) {
		if c := c.(map[string]any); c["action"] == "stop" {
			command = c["command"].(string)
		}
	}
	args := strings.Fields(command)
	if len(args) < 2 || args[0] != "berth" {
		t.Fatalf("the cure is %q", command)
	}
	berth(t, append(args[1:], "--dry-run")...).is(t, 0, "SIGTERM to ", "")

	// A second bind in there is refused a low port as a user without the right.
	berth(t, "why", "80", "--netns", pid, "--uid", "65534").is(t, 5, "ports below 1024", "")
	berth(t, "why", "80", "--netns", pid).is(t, 0, "can be bound now", "")
	asNobody(t, "why", port, "--netns", pid).is(t, 5, "", "berth: hint: run berth as root")
}

func TestListNetworkNamespaces(t *testing.T) {
	port := fresh()
	p := startInside(t, "hold", "127.0.0.1:"+port)
	scene(t, "LISTEN", "127.0.0.1:"+port, lab.Options{})
	pids := map[string]string{} // by whether the port is in another namespace
	var l struct {
		Ports []struct {
			NetNS   *string
			Port    int
			Holders []struct{ PID int }
		}
	}
	if err := json.Unmarshal([]byte(berth(t, "list", "--netns", "all", "--port", port, "--json").out), &l); err != nil {
		t.Fatal(err)
	}
	for _, entry := range l.Ports {
		for _, h := range entry.Holders {
			pids[fmt.Sprint(entry.NetNS != nil)] += strconv.Itoa(h.PID)
		}
	}
	if want := map[string]string{"true": strconv.Itoa(p.Process.Pid), "false": strconv.Itoa(os.Getpid())}; fmt.Sprint(pids) != fmt.Sprint(want) {
		t.Errorf("the holders are %v, want %v", pids, want)
	}
	berth(t, "list", "--netns", "all", "--port", port).is(t, 0, "PORT  NETNS", "")
	if r := berth(t, "list", "--port", port); strings.Contains(r.out, "NETNS") {
		t.Errorf("one namespace needs no column:\n%s", r.out)
	}
	asNobody(t, "list", "--netns", "all").is(t, 0, "note: only berth's own network namespace is shown", "")
}

// What is freed in one namespace stays untouched in the other.
func TestFreeInNetworkNamespace(t *testing.T) {
	port := fresh()
	p := startInside(t, "hold", "127.0.0.1:"+port)
	outside := start(t, "hold", "127.0.0.1:"+port)
	outside.await(t, "holding")
	pid := strconv.Itoa(p.Process.Pid)
	berth(t, "free", port, "--netns", pid, "--yes").is(t, 0, "SIGTERM sent to ", "")
	if status := p.end(t); status != 128+15 {
		t.Errorf("the holder inside ended with %d", status)
	}
	outside.finish(t) // and not by a signal
}

// A wait wakes up when the holder in the other namespace ends, not at the next
// interval.
func TestWaitInNetworkNamespace(t *testing.T) {
	port := fresh()
	p := startInside(t, "hold", "127.0.0.1:"+port)
	out := lines{c: make(chan string, 64)}
	done := make(chan int, 1)
	start := time.Now()
	go func() {
		var err bytes.Buffer
		done <- Main(t.Context(), []string{"wait", port, "--netns", strconv.Itoa(p.Process.Pid), "--timeout", "1h", "--interval", "1h"}, std(out, &err))
	}()
	<-out.c // it is refused, and waits
	p.stdin.Close()
	if status := <-done; status != 0 {
		t.Errorf("status %d", status)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

// lines hands on what is written to it.
type lines struct{ c chan string }

func (l lines) Write(b []byte) (int, error) {
	l.c <- string(b)
	return len(b), nil
}

func TestUnknownNetworkNamespace(t *testing.T) {
	for _, verb := range []string{"why 80", "wait 80", "free 80", "list"} {
		for _, name := range []string{"no-such-name", "99999999999"} {
			berth(t, append(strings.Fields(verb), "--netns", name)...).is(t, 2, "",
				fmt.Sprintf("berth: cannot find the network namespace %q: no process, namespace or container is called that\nberth: hint: berth list --netns all shows what there is\n", name))
		}
	}
}

func TestUDP(t *testing.T) {
	lab.NeedNamespace(t)
	port := fresh()
	tcp := start(t, "hold", "127.0.0.1:"+port)
	tcp.await(t, "holding")
	berth(t, "why", port, "--udp").is(t, 0, "127.0.0.1:"+port+"/udp can be bound now.", "")
	p := start(t, "hold-udp", "127.0.0.1:"+port)
	p.await(t, "holding")
	pid := p.Process.Pid

	v := berth(t, "why", port, "--udp", "--json").object(t)
	bind, blockers := v["bind"].(map[string]any), v["blockers"].([]any)
	if bind["proto"] != "udp" || bind["reuseaddr"] != false || v["reason"] != "held" || len(blockers) != 1 {
		t.Fatalf("the answer is %v", v)
	}
	blocker := blockers[0].(map[string]any)
	holders := blocker["holders"].([]any)
	if blocker["state"] != "UNCONN" || blocker["flags_from"] != "getsockopt" || len(holders) != 1 || holders[0].(map[string]any)["pid"] != float64(pid) {
		t.Errorf("the blocker is %v", blocker)
	}
	berth(t, "why", port, "--udp", "--host", "::1").is(t, 0, "/udp can be bound now", "")
	berth(t, "list", "--udp", "--port", port).is(t, 0, "UNCONN", "")
	berth(t, "list", "--udp", "--port", port).is(t, 0, strconv.Itoa(pid), "")
	berth(t, "wait", port, "--udp", "--timeout", "0s").is(t, 6, "refused: ", "berth: still refused")
	berth(t, "free", port, "--udp", "--yes").is(t, 0, "127.0.0.1:"+port+"/udp can be bound. ", "")
	if status := p.end(t); status != 128+15 {
		t.Errorf("the holder ended with %d", status)
	}
	tcp.finish(t) // which only has the same number
}

// The kernel reports the end of UDP sockets too, so no wait is a poll.
func TestWaitUDP(t *testing.T) {
	lab.NeedNamespace(t)
	port := fresh()
	p := start(t, "hold-udp", "127.0.0.1:"+port)
	p.await(t, "holding")
	out := lines{c: make(chan string, 64)}
	done := make(chan int, 1)
	go func() {
		var err bytes.Buffer
		done <- Main(t.Context(), []string{"wait", port, "--udp", "--timeout", "20s", "--interval", "1h"}, std(out, &err))
	}()
	<-out.c
	p.stdin.Close()
	if status := <-done; status != 0 {
		t.Errorf("status %d", status)
	}
}
