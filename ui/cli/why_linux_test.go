package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/netstate/lab"
)

// Every way to write the bind, and the one sentence that bad input gets.
func TestWhyInput(t *testing.T) {
	lab.NeedNamespace(t)
	for _, tt := range []struct {
		flags    string
		status   int
		out, err string
	}{
		{"--reuseaddr=0 --reuseport=1 --v6only=0", 0, "can be bound now", ""},
		{"--reuseaddr=false --reuseport=true", 0, "can be bound now", ""},
		{"--host [::1] --v6only=1", 0, "[::1]:PORT can be bound", ""},
		{"--host ::1 --v6only=0", 0, "[::1]:PORT can be bound", ""},
		{"--host ::ffff:127.0.0.1", 0, "[::ffff:127.0.0.1]:PORT can be bound", ""},
		{"--host [::ffff:127.0.0.1] --v6only=1", 8, "a socket with IPV6_V6ONLY takes no IPv4-mapped address (EINVAL)", ""},
		{"--host 127.0.0.1 --v6only=1", 2, "", "--v6only needs an IPv6 host, and 127.0.0.1 is none"},
		{"--host fe80::1", 8, "needs its interface, as in fe80::1%eth0 (EINVAL)", ""},
		{"--host fe80::1%lo", 8, "is not an address of this machine", ""},
		{"--host fe80::1%nosuch", 8, "no interface nosuch (EINVAL)", ""},
		{"--host [fe80::1%9999]", 8, "no interface 9999 (ENODEV)", ""},
		{"--host ff02::1", 8, "multicast address", ""},
		{"--reuseaddr=2", 2, "", `--reuseaddr cannot be "2": it takes true or false, or 1 or 0`},
		{"--uid nosuchuser", 2, "", `there is no user "nosuchuser"`},
		{"--uid 4294967295", 2, "", "there is no user 4294967295"},
	} {
		t.Run(tt.flags, func(t *testing.T) {
			port := fresh()
			args := append([]string{"why", port}, strings.Fields(tt.flags)...)
			berth(t, args...).is(t, tt.status, strings.ReplaceAll(tt.out, "PORT", port), tt.err)
		})
	}
	berth(t, "why", "0").is(t, 2, "", `port "0" is not a number from 1 to 65535`)
}

// The verdict for another user's server is the one which that user would get.
func TestWhyUser(t *testing.T) {
	lab.NeedNamespace(t)
	if os.Geteuid() != 0 {
		berth(t, "why", fresh(), "--uid", "0").is(t, 5, "", "bind as uid 0: operation not permitted")
		t.Skip("the rest needs root, to bind as another user")
	}
	asNobody(t, "why", fresh(), "--uid", "0").is(t, 5, "", "bind as uid 0: operation not permitted")
	port := fresh()
	scene(t, "LISTEN", "127.0.0.1:"+port, lab.Options{ReuseAddr: true, ReusePort: true})
	berth(t, "why", port, "--reuseport=1", "--uid", "0").is(t, 0, "can be bound now", "")
	r := berth(t, "why", port, "--json", "--reuseport=1", "--uid=65534")
	r.is(t, 3, `"errno":"EADDRINUSE"`, "")
	var v struct{ Bind struct{ UID *int } }
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || v.Bind.UID == nil || *v.Bind.UID != 65534 {
		t.Errorf("bind.uid is not 65534 in %s (%v)", r.out, err)
	}
	berth(t, "why", "81", "--uid", "65534").is(t, 5, "127.0.0.1:81 cannot be bound", "")
	berth(t, "why", "81").is(t, 0, "can be bound now", "")
}

// The CPU time of a whole "berth why", start-up included, against ss(8) naming
// all listeners and their processes; the median of runs in turns, so that both
// meet the same disturbances. Below 1, berth costs less. The program is built
// as it is released, without cgo: a build that links the C library pays a
// millisecond for it at each start.
//
// Which costs less depends on what else the machine runs. Ss starts in less
// time than a Go program with these dependencies; both look at every
// descriptor of every process, and ss takes longer for those that are sockets.
// Hence the crowds.
func BenchmarkWhyAgainstSS(b *testing.B) {
	ss, err := exec.LookPath("ss")
	if err != nil {
		b.Skipf("needs ss: %v", err)
	}
	program := os.Getenv("BERTH_TEST_BINARY")
	if program == "" {
		program = filepath.Join(b.TempDir(), "berth")
		build := exec.Command("go", "build", "-o", program, "berth")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			b.Skipf("needs the go tool, to build the program: %v\n%s", err, out)
		}
	}
	for _, bb := range []struct {
		name, state string
		opts        lab.Options
		crowd       func(*testing.B) []*os.File // the descriptors of each of ten more processes
		status      int
	}{
		{"free", "", lab.Options{}, nil, exitOK},
		{"held", "LISTEN", lab.Options{ReuseAddr: true}, nil, exitHeld},
		{"held-among-sockets", "LISTEN", lab.Options{ReuseAddr: true}, manySockets, exitHeld},
		{"held-among-files", "LISTEN", lab.Options{ReuseAddr: true}, manyFiles, exitHeld},
		{"lingering", "TIME-WAIT", lab.Options{}, nil, exitLingering},
	} {
		b.Run(bb.name, func(b *testing.B) {
			port := fresh()
			if bb.state != "" {
				lab.NeedNamespace(b)
				s, err := lab.Make(bb.state, at("127.0.0.1:"+port), bb.opts)
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
			}
			for range 10 {
				if bb.crowd != nil {
					startIdle(b, bb.crowd(b))
				}
			}
			var why, table []time.Duration
			for b.Loop() {
				why = append(why, cpu(b, bb.status, program, "why", port))
				table = append(table, cpu(b, exitOK, ss, "-tlnp"))
			}
			slices.Sort(why)
			slices.Sort(table)
			a, c := why[len(why)/2], table[len(table)/2]
			b.ReportMetric(float64(a.Microseconds()), "why-cpu-µs")
			b.ReportMetric(float64(c.Microseconds()), "ss-cpu-µs")
			b.ReportMetric(float64(a)/float64(c), "why/ss")
		})
	}
}

// many is how many descriptors a process of the crowd has.
const many = 500

func manyFiles(b *testing.B) []*os.File {
	null, err := os.Open(os.DevNull)
	if err != nil {
		b.Fatal(err)
	}
	return slices.Repeat([]*os.File{null}, many)
}

func manySockets(b *testing.B) []*os.File {
	var files []*os.File
	for range many {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, os.NewFile(uintptr(fd), "socket"))
	}
	return files
}

// startIdle starts a process that has these descriptors and does nothing until
// the end of the benchmark.
func startIdle(b *testing.B, files []*os.File) {
	defer func() {
		for _, f := range files {
			f.Close() // the same file more than once fails, which is no matter
		}
	}()
	cmd := exec.Command("cat")
	cmd.ExtraFiles = files
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Skipf("needs cat: %v", err)
	}
	b.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
}

// cpu runs a command and returns the user and system time that it took.
func cpu(b *testing.B, status int, name string, args ...string) time.Duration {
	cmd := exec.Command(name, args...)
	_ = cmd.Run()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != status {
		b.Fatalf("%s %s: %v, want status %d", name, strings.Join(args, " "), cmd.ProcessState, status)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
