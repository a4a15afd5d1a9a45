package netstate

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// realLimit bounds each wait for a real supervisor; none of them is quick.
const realLimit = 30 * time.Second

// reports is a fifo to which a supervised program writes its pid each time it
// starts.
type reports struct {
	path string
	file *os.File
}

func newReports(t *testing.T) *reports {
	t.Helper()
	r := &reports{path: filepath.Join(t.TempDir(), "pids")}
	if err := unix.Mkfifo(r.path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(r.path, os.O_RDWR, 0) // with a writer of its own it never ends
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	r.file = f
	return r
}

// next waits for the program's next start. It reads byte by byte, so that it
// leaves a second report where it is.
func (r *reports) next(t *testing.T) int {
	t.Helper()
	if err := r.file.SetReadDeadline(time.Now().Add(realLimit)); err != nil {
		t.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if _, err := r.file.Read(b); err != nil {
			t.Fatal("the program was not started: ", err)
		}
		if b[0] == '\n' {
			break
		}
	}
	pid, err := strconv.Atoi(string(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// script is a shell program that reports its pid and becomes one that waits.
func (r *reports) script() string {
	return "#!/bin/sh\necho $$ >'" + r.path + "'\nexec sleep 600\n"
}

// node is the same for node, which its watchers insist on.
func (r *reports) node() string {
	return "require('fs').writeFileSync('" + r.path + "', process.pid + '\\n'); setTimeout(() => {}, 600000)\n"
}

// ended waits for the end of a process.
func ended(t *testing.T, pidfd int) {
	t.Helper()
	deadline := time.Now().Add(realLimit)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil || n == 0:
			t.Fatalf("the process did not end: %d, %v", n, err)
		default:
			return
		}
	}
}

// supervise starts a supervisor, which its own group lets end with all that
// did not leave it.
func supervise(t *testing.T, stop unix.Signal, dir string, words ...string) {
	t.Helper()
	if _, err := exec.LookPath(words[0]); err != nil {
		t.Skip("needs ", words[0])
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = dir
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if testing.Verbose() {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(stop)
		late := time.AfterFunc(realLimit, func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
		cmd.Wait()
		late.Stop()
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	})
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// TestRealSupervisors: each recognises a program that the supervisor itself
// started; the program comes back where that is claimed, and the stop command
// is typed into a shell and ends it.
func TestRealSupervisors(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, r *reports, dir string) (kind SupervisorKind, service string){
		"runit": func(t *testing.T, r *reports, dir string) (SupervisorKind, string) {
			write(t, dir+"/web/run", r.script(), 0o755)
			supervise(t, unix.SIGTERM, dir, "runsv", "web")
			return SupervisorRunit, "web"
		},
		"s6": func(t *testing.T, r *reports, dir string) (SupervisorKind, string) {
			write(t, dir+"/my web/run", r.script(), 0o755)
			supervise(t, unix.SIGTERM, dir, "s6-supervise", "my web")
			return SupervisorS6, "my web"
		},
		"daemontools": func(t *testing.T, r *reports, dir string) (SupervisorKind, string) {
			write(t, dir+"/web/run", r.script(), 0o755)
			supervise(t, unix.SIGKILL, dir, "supervise", "web")
			return SupervisorDaemontools, "web"
		},
		"supervisord": func(t *testing.T, r *reports, dir string) (SupervisorKind, string) {
			write(t, dir+"/web", r.script(), 0o755)
			write(t, dir+"/sup.conf", strings.Join([]string{
				"[unix_http_server]", "file=" + dir + "/sock",
				"[supervisorctl]", "serverurl=unix://" + dir + "/sock",
				"[supervisord]", "nodaemon=true", "pidfile=" + dir + "/pid", "logfile=/dev/null", "logfile_maxbytes=0",
				"[rpcinterface:supervisor]", "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
				"[program:web]", "command=" + dir + "/web", "process_name=web_%(process_num)02d", "numprocs=1", "autorestart=true", "startsecs=0", ""}, "\n"), 0o644)
			supervise(t, unix.SIGTERM, dir, "supervisord", "-c", dir+"/sup.conf")
			return SupervisorSupervisord, "web:web_00"
		},
		"pm2": func(t *testing.T, r *reports, dir string) (SupervisorKind, string) {
			if _, err := exec.LookPath("pm2"); err != nil {
				t.Skip("needs pm2")
			}
			t.Setenv("PM2_HOME", dir+"/the daemon")
			write(t, dir+"/server.js", r.node(), 0o644)
			t.Cleanup(func() { _ = exec.Command("pm2", "kill").Run() })
			if out, err := exec.Command("pm2", "start", dir+"/server.js", "--name", "my web").CombinedOutput(); err != nil {
				t.Fatalf("pm2: %v\n%s", err, out)
			}
			return SupervisorPM2, "my web"
		},
		"nodemon": func(t *testing.T, r *reports, dir string) (SupervisorKind, string) {
			write(t, dir+"/server.js", r.node(), 0o644)
			supervise(t, unix.SIGTERM, dir, "nodemon", "server.js")
			return "nodemon", ""
		},
		"node --watch": func(t *testing.T, r *reports, dir string) (SupervisorKind, string) {
			write(t, dir+"/server.js", r.node(), 0o644)
			if out, err := exec.Command("node", "--help").CombinedOutput(); err != nil || !strings.Contains(string(out), "--watch") {
				t.Skip("needs node with --watch: ", err)
			}
			supervise(t, unix.SIGTERM, dir, "node", "--watch", "server.js")
			return "node --watch", ""
		},
		"tsx": func(t *testing.T, r *reports, dir string) (SupervisorKind, string) {
			write(t, dir+"/server.js", r.node(), 0o644)
			supervise(t, unix.SIGTERM, dir, "tsx", "watch", "server.js")
			return "tsx", ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReports(t)
			kind, service := start(t, r, t.TempDir())
			pid := r.next(t)
			h, err := processFacts(context.Background(), pid)
			if err != nil {
				t.Fatal(err)
			}
			s := h.Supervisor
			if s == nil || s.Kind != kind || s.Name != service {
				t.Fatalf("%+v of %+v, want %s %q", s, h, kind, service)
			}
			if id, err := IdentifyProcess(s.PID); err != nil {
				t.Errorf("its process: %v, %v", id, err)
			}
			if s.Restarts == Yes && !s.OnChange {
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if again := r.next(t); again == pid {
					t.Errorf("pid %d twice", pid)
				} else {
					pid = again
				}
			}
			pidfd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pidfd)
			ctx, cancel := context.WithTimeout(context.Background(), realLimit)
			defer cancel()
			if out, err := exec.CommandContext(ctx, "sh", "-c", s.Stop).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", s.Stop, err, out)
			}
			ended(t, pidfd)
			t.Log(s.Stop)
		})
	}
}
