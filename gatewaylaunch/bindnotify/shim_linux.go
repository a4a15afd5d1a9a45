//go:build amd64 || arm64

package bindnotify

import (
	"encoding/binary"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The names by which this program is started for this package's own purposes.
// They are looked for in argv[0], where nobody puts them by accident and from
// where no child inherits them.
const (
	shimName  = "berth: shim"  // FD PROGRAM ARGV…: becomes PROGRAM under the filter
	guardName = "berth: guard" // answers what the launcher can no longer answer
	probeName = "berth: probe" // PORT: binds it and tells what came of it
	// lets processes run on that were stopped by one that has ended since
	resumeName = "berth: resume"
)

// The messages between the launcher, the shim and the guard.
const (
	sayFilter = 'f' // shim: the filter is installed; its descriptor, and a byte for no_new_privs
	sayNo     = 'n' // shim: it cannot be installed; the errno
	sayGo     = 'g' // launcher: become the program
	sayExec   = 'x' // shim: the program cannot be executed; the errno
	sayAsk    = 'a' // launcher to guard: receive from this descriptor
)

// statusFailed is what the helpers exit with; nobody reads it.
const statusFailed = 125

// Shim must be the first call of main in every program that calls Start or
// Supported, and of TestMain in its tests. It returns false, and has done
// nothing, unless this process was started by this package for a purpose of its
// own; then it returns the status to exit with.
func Shim() (status int, ok bool) {
	if len(os.Args) == 0 || !strings.HasPrefix(os.Args[0], "berth: ") {
		return 0, false
	}
	switch os.Args[0] {
	case shimName:
		return shim(os.Args[1:]), true
	case guardName:
		return guard(), true
	case resumeName:
		return resumeHelper(), true
	case probeName:
		return probe(os.Args[1:]), true
	}
	return 0, false
}

// self is the path by which this program starts itself: also if the file was
// replaced since, and for a user who cannot enter its directory.
func self() string {
	const proc = "/proc/self/exe"
	if _, err := os.Stat(proc); err == nil {
		return proc
	}
	if path, err := os.Executable(); err == nil {
		return path
	}
	return proc
}

// shim installs the filter and becomes the program. It returns only if that
// failed or if nobody wants it any more.
func shim(args []string) int {
	if len(args) < 3 {
		return statusFailed
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return statusFailed
	}
	path, argv := args[1], args[2:]
	// The filter is that of one thread, and exec keeps the thread that calls it.
	runtime.LockOSThread()
	unix.CloseOnExec(fd)
	c := &channel{fd}
	notify, noNewPrivs, err := install()
	if err != nil {
		_ = c.send(errnoMessage(sayNo, err), -1) // nobody is left to be told
		return statusFailed
	}
	flag := byte(0)
	if noNewPrivs {
		flag = 1
	}
	if err := c.send([]byte{sayFilter, flag}, notify); err != nil {
		return statusFailed
	}
	unix.Close(notify)
	var buf [8]byte
	if n, _, err := c.receive(buf[:], -1); err != nil || n != 1 || buf[0] != sayGo {
		return statusFailed
	}
	err = syscall.Exec(path, argv, os.Environ())
	_ = c.send(errnoMessage(sayExec, err), -1)
	return statusFailed
}

func errnoMessage(kind byte, err error) []byte {
	errno, _ := err.(unix.Errno)
	return binary.NativeEndian.AppendUint32([]byte{kind}, uint32(errno))
}

func errnoIn(message []byte) unix.Errno {
	if len(message) != 5 {
		return unix.EPROTO
	}
	return unix.Errno(binary.NativeEndian.Uint32(message[1:]))
}

// throughShim makes a command that was prepared for its own program start this
// one instead, and returns the launcher's end of the channel to it.
func throughShim(cmd *exec.Cmd) (*channel, *os.File, error) {
	c, end, err := newChannel()
	if err != nil {
		return nil, nil, err
	}
	const firstExtra = 3
	number := strconv.Itoa(firstExtra + len(cmd.ExtraFiles))
	argv := cmd.Args
	if len(argv) == 0 {
		argv = []string{cmd.Path}
	}
	cmd.Args = append([]string{shimName, number, cmd.Path}, argv...)
	cmd.Path = self()
	cmd.ExtraFiles = append(cmd.ExtraFiles, end)
	return c, end, nil
}
