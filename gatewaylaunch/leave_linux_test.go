package gatewaylaunch

import (
	"errors"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"berth/netstate"
)

// A gateway that is left goes on, and Run is over.
func TestLeave(t *testing.T) {
	log, err := OpenLog(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	leave := make(chan struct{})
	pid := 0
	l := Launcher{Command: Command{Argv: []string{"sleep", "60"}}, GuessedPort: true, Log: log, Leave: leave, Kernel: NewKernel(sys)}
	_, err = l.Run(t.Context(), func(e Event) {
		if e.Kind == EventStarted {
			pid = e.PID
			close(leave)
		}
	})
	if !errors.Is(err, ErrLeft) {
		t.Errorf("it returned %v", err)
	}
	if d, err := readProcess(pid); err != nil || d.zombie {
		t.Errorf("pid %d: %+v, %v; want it to go on", pid, d, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		if _, err := readProcess(pid); err != nil {
			return
		}
	}
	t.Error("its status is never collected")
}
