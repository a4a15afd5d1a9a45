package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Child is a process that has inherited a socket and does nothing with it, as
// a forked helper of a server may do without knowing.
type Child struct {
	PID int
	// FD is the descriptor by which it has the socket.
	FD int

	cmd   *exec.Cmd
	stdin interface{ Close() error }
}

// Inherit starts a child process that has the socket open. The child waits for
// the end of its standard input, so it ends with this process, however that
// ends.
func (s *Socket) Inherit() (*Child, error) {
	const firstExtra = 3
	path, err := exec.LookPath("cat")
	if err != nil {
		return nil, fmt.Errorf("a child that only waits: %w", err)
	}
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	file := os.NewFile(uintptr(fd), "inherited socket")
	defer file.Close()
	cmd := exec.Command(path)
	cmd.ExtraFiles = []*os.File{file}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// Start returns after the child's exec, so it has the socket from now on.
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &Child{PID: cmd.Process.Pid, FD: firstExtra, cmd: cmd, stdin: stdin}
	// Handing a file to a child makes it blocking, and with it every
	// descriptor of the same open socket, ours included.
	if err := unix.SetNonblock(s.fd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl F_SETFL", err), c.Close())
	}
	return c, nil
}

// Close ends the child and waits for it. A second Close does nothing.
func (c *Child) Close() error {
	if c.cmd.ProcessState != nil {
		return nil
	}
	if err := c.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // somebody else ended it, which tests do
	}
	return err
}
