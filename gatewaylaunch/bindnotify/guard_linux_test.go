//go:build amd64 || arm64

package bindnotify

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"berth/netstate/lab"
)

// launcher is another process that supervises a binder, so that it can be
// killed.
type launcher struct {
	*talk
	heard  *bufio.Reader
	binder int
}

func startLauncher(t *testing.T, how, port string) *launcher {
	t.Helper()
	needSupport(t)
	cmd := role("launch", how, port)
	in, childIn := pipe(t)
	childOut, out := pipeOut(t)
	childErr, errs := pipeOut(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, out, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	childIn.Close()
	out.Close()
	errs.Close()
	l := &launcher{talk: &talk{t: t, cmd: cmd, in: in, out: bufio.NewReader(childOut)}, heard: bufio.NewReader(childErr)}
	pid, ok := strings.CutPrefix(l.said(), "started ")
	if !ok {
		t.Fatal("it did not start: ", pid)
	}
	l.binder, _ = strconv.Atoi(pid)
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return l
}

func (l *launcher) said() string {
	l.t.Helper()
	line, err := l.heard.ReadString('\n')
	if err != nil {
		l.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func (l *launcher) kill() {
	l.t.Helper()
	if err := l.cmd.Process.Kill(); err != nil {
		l.t.Fatal(err)
	}
	_ = l.cmd.Wait()
}

// TestKilledLauncherLeavesAWorkingServer: whoever kills the launcher, at
// whatever step, does not leave a server behind that can never bind again.
func TestKilledLauncherLeavesAWorkingServer(t *testing.T) {
	lab.NeedNamespace(t)
	works := func(l *launcher, port string) {
		l.t.Helper()
		l.do("ok", "socket x")
		l.do("ok", "bind x 127.0.0.1:%s", port)
		l.do("ok", "listen x 5")
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			l.t.Fatal(err)
		}
		defer c.Close()
		l.do("ok", "accept x")
	}
	t.Run("before any bind", func(t *testing.T) {
		l := startLauncher(t, "watch", "0")
		l.do("ok", "socket a")
		l.kill()
		works(l, "2101")
	})
	t.Run("after a bind", func(t *testing.T) {
		l := startLauncher(t, "watch", "0")
		l.do("ok", "socket a")
		l.do("ok", "bind a 127.0.0.1:2102")
		l.kill()
		l.do("ok", "listen a 5")
		works(l, "2103")
	})
	t.Run("after a listen", func(t *testing.T) {
		l := startLauncher(t, "watch", "0")
		works(l, "2104")
		l.kill()
		works(l, "2105")
	})
	t.Run("while a bind is held", func(t *testing.T) {
		ln, _, _ := listen(t, "127.0.0.1:2106")
		l := startLauncher(t, "hold", "2106")
		l.do("ok", "socket a")
		l.say("bind a 127.0.0.1:2106")
		if got := l.said(); got != "held made" {
			t.Fatal(got)
		}
		l.kill()
		// The guard makes the call as if nothing were there.
		if got := l.hear(); got != "EADDRINUSE" {
			t.Error(got)
		}
		ln.Close()
		l.do("ok", "bind a 127.0.0.1:2106")
		works(l, "2107")
	})
}

// TestGuardKnowsABindThatWasMade: the launcher is killed after it has made the
// call and before it could say so.
func TestGuardKnowsABindThatWasMade(t *testing.T) {
	lab.NeedNamespace(t)
	old := listenRaw(t, "127.0.0.1:2111")
	l := startLauncher(t, "hold", "2111")
	l.do("ok", "socket a")
	l.say("bind a 127.0.0.1:2111")
	if got := l.said(); got != "held made" {
		t.Fatal(got)
	}
	// Stopped, the launcher answers nothing; this process makes the call in
	// its place, with the socket that waits.
	if err := l.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, l.cmd.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	unix.Close(old)
	pidfd, err := unix.PidfdOpen(l.binder, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	bound := false
	for fd := 3; fd < 20 && !bound; fd++ {
		dup, err := unix.PidfdGetfd(pidfd, fd, 0)
		if err != nil {
			continue
		}
		s, err := newSocket(dup)
		bound = err == nil && s.stream() && unix.Bind(dup, loopback(2111)) == nil
		unix.Close(dup)
	}
	if !bound {
		t.Fatal("the socket that waits was not found")
	}
	l.kill()
	if got := l.hear(); got != "ok" {
		t.Errorf("a bind that was made is answered by %s", got)
	}
	l.do("127.0.0.1:2111", "name a")
}

func listenRaw(t *testing.T, addr string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(addr, ":")
	n, _ := strconv.Atoi(port)
	if err := errors.Join(unix.Bind(fd, loopback(n)), unix.Listen(fd, 5)); err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestKilledBeforeTheProgramRuns: a launcher that is killed before it has said
// "go" leaves no program.
func TestKilledBeforeTheProgramRuns(t *testing.T) {
	needSupport(t)
	c, end, err := newChannel()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self())
	cmd.Args = []string{shimName, "3", self(), "binder"}
	cmd.Env = append(os.Environ(), roleEnv+"=binder")
	cmd.ExtraFiles = []*os.File{end}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end.Close()
	var buf [8]byte
	_, fd, err := c.receive(buf[:], handshakeMost)
	if err != nil || fd < 0 {
		t.Fatal(err)
	}
	unix.Close(fd)
	c.close()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != statusFailed {
		t.Error(err)
	}
}

// TestGuardThatIsKilled: then the launcher receives by itself.
func TestGuardThatIsKilled(t *testing.T) {
	lab.NeedNamespace(t)
	p := startBinder(t, role("binder"), Config{})
	p.do("ok", "socket a")
	p.do("ok", "bind a 127.0.0.1:2121")
	p.event(KindBind)
	pids := guardsOf(t, os.Getpid())
	if len(pids) != 1 {
		t.Fatalf("guards %v", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.do("ok", "listen a 5")
	p.event(KindListen)
	p.do("ok", "socket b")
	p.do("ok", "bind b 127.0.0.1:2122")
	p.event(KindBind)
}

func guardsOf(t *testing.T, parent int) (pids []int) {
	t.Helper()
	data, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range data {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		status, _ := os.ReadFile("/proc/" + d.Name() + "/status")
		cmdline, _ := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		if strings.TrimRight(string(cmdline), "\x00") == guardName && strings.Contains(string(status), "\nPPid:\t"+strconv.Itoa(parent)+"\n") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestDaemonIsAnswered: the tree lives on in a session of its own when the
// process that was started has ended, and the guard ends with it.
func TestDaemonIsAnswered(t *testing.T) {
	lab.NeedNamespace(t)
	p := startBinder(t, role("daemon"), Config{})
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	p.do("ok", "socket a")
	p.do("ok", "bind a 127.0.0.1:2131")
	p.event(KindBind)
	select {
	case <-p.tree.Done():
		t.Error("the supervision has ended before the daemon")
	default:
	}
	if err := p.in.(io.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	<-p.tree.Done()
}
