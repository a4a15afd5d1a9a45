//go:build amd64 || arm64

package bindnotify

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"sync"

	"golang.org/x/sys/unix"
)

// Tree is a started program with its descendants, whose binds are answered
// until the last of them has ended.
type Tree struct {
	config     Config
	notify     notifier
	guard      *channel // nil if it has ended
	noNewPrivs bool

	telling   sync.Mutex // config.On is called with it
	answering sync.WaitGroup
	abandoned chan struct{}
	abandon   sync.Once
	done      chan struct{}

	mu sync.Mutex
	// made are sockets whose bind succeeded but whose program was interrupted
	// before it heard so, and will ask again.
	made map[uint64]address
}

// Start starts the command in place of cmd.Start and answers the calls of its
// tree until the last process of it has ended, or until ctx has: then the calls
// are made as if nothing were there. Everything else about the command, such as
// waiting for it, is as usual, but its Path and Args are changed.
//
// If the program cannot be executed, the error is what cmd.Start would have
// returned. A *Error says that the filter cannot be had; nothing was started
// then, and a new command can be started without it.
func Start(ctx context.Context, cmd *exec.Cmd, config Config) (*Tree, error) {
	const op = "watch the binds of the program"
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	program := cmd.Path
	guard, err := startGuard()
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	t := &Tree{config: config, guard: guard, abandoned: make(chan struct{}), done: make(chan struct{}), made: map[uint64]address{}}
	shim, end, err := throughShim(cmd)
	if err != nil {
		guard.close()
		return nil, &Error{Op: op, Err: err}
	}
	defer shim.close()
	err = cmd.Start()
	end.Close()
	if err != nil {
		guard.close()
		return nil, err
	}
	if err := t.begin(shim, program); err != nil {
		guard.close()
		shim.close() // it waits for a word and ends without one
		_ = cmd.Wait()
		shim.fd = -1
		if t.notify.fd > 0 {
			unix.Close(t.notify.fd)
		}
		return nil, err
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		stop = -1 // then only the tree's end ends the supervision
	}
	stopped := context.AfterFunc(ctx, func() {
		one := [8]byte{0: 1}
		_, _ = unix.Write(stop, one[:])
	})
	go func() {
		defer close(t.done)
		t.supervise(ctx, stop)
		if stopped() && stop >= 0 {
			unix.Close(stop)
		}
	}()
	return t, nil
}

// begin leads the shim to become the program.
func (t *Tree) begin(shim *channel, program string) error {
	const op = "watch the binds of the program"
	var buf [8]byte
	n, fd, err := shim.receive(buf[:], handshakeMost)
	switch {
	case err != nil:
		return &Error{Op: op, Err: err, Why: "this program does not begin with bindnotify.Shim"}
	case n == 5 && buf[0] == sayNo:
		errno := errnoIn(buf[:n])
		return &Error{Op: op, Err: unsupportedErrno(errno), Why: whyNoFilter(errno)}
	case n != 2 || buf[0] != sayFilter || fd < 0:
		return &Error{Op: op, Err: unix.EPROTO}
	}
	t.notify, t.noNewPrivs = notifier{fd}, buf[1] != 0
	if err := t.guard.hand(t.notify); err != nil {
		return &Error{Op: op, Err: err}
	}
	if err := shim.send([]byte{sayGo}, -1); err != nil {
		return &Error{Op: op, Err: err}
	}
	n, _, err = shim.receive(buf[:], handshakeMost)
	if err == nil {
		// The form in which exec.Cmd reports it.
		return &fs.PathError{Op: "fork/exec", Path: program, Err: errnoIn(buf[:n])}
	}
	return nil // the channel was closed by the exec
}

// Done is closed when the last process of the tree has ended, or after ctx.
func (t *Tree) Done() <-chan struct{} { return t.done }

// Abandon refuses the binds that are held, and those that come: the program
// is going to be stopped, and would not notice a signal while it is held.
func (t *Tree) Abandon() { t.abandon.Do(func() { close(t.abandoned) }) }

// NoNewPrivs reports whether set-user-ID programs of the tree run without
// their rights: the price that an ordinary user pays for the filter.
func (t *Tree) NoNewPrivs() bool { return t.noNewPrivs }

// supervise reads the questions until the tree or ctx ends. What the guard has
// passed on is answered here; a guard that was killed is done without.
func (t *Tree) supervise(ctx context.Context, stop int) {
	defer unix.Close(t.notify.fd)
	defer func() {
		// The guard takes over when the channel closes, so what is being
		// answered here must have been answered before.
		t.answering.Wait()
		if t.guard != nil {
			t.guard.close()
		}
	}()
	for {
		source := t.notify.fd
		if t.guard != nil {
			source = t.guard.fd
		}
		events, err := wait(-1, unix.PollFd{Fd: int32(source), Events: unix.POLLIN}, unix.PollFd{Fd: int32(stop), Events: unix.POLLIN})
		if err != nil || events[1] != 0 {
			return
		}
		if t.guard == nil && events[0]&unix.POLLIN == 0 {
			return // the last process has ended
		}
		q, err := t.next()
		if err != nil {
			return
		}
		if q != nil {
			t.answering.Go(func() { t.answer(ctx, q) })
		}
	}
}

// next takes the question that poll has announced. It returns nil if there was
// none after all.
func (t *Tree) next() (*notification, error) {
	if t.guard == nil {
		return t.notify.receive()
	}
	q := &notification{}
	n, _, err := t.guard.receive(q.bytes(), -1)
	if err != nil {
		t.guard.close()
		t.guard = nil
		return nil, nil
	}
	if n != notificationSize {
		return nil, nil
	}
	return q, nil
}

func unsupportedErrno(errno unix.Errno) error {
	switch errno {
	case unix.ENOSYS, unix.EINVAL:
		return errors.Join(errors.ErrUnsupported, os.NewSyscallError("seccomp", errno))
	}
	return os.NewSyscallError("seccomp", errno)
}

func whyNoFilter(errno unix.Errno) string {
	switch errno {
	case unix.ENOSYS, unix.EINVAL:
		return "this kernel has no seccomp user notification (Linux 5.6 and later have it)"
	case unix.EBUSY:
		return "this process is itself under such a filter, and the kernel allows only one"
	case unix.EACCES, unix.EPERM:
		return "seccomp filters are forbidden here, perhaps by the container's own profile"
	}
	return ""
}

func whyNoGetfd(err error) string {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return "this kernel cannot duplicate another process's descriptor (pidfd_getfd, Linux 5.6 and later)"
	case errors.Is(err, unix.EPERM):
		return "its descriptors may not be duplicated (pidfd_getfd): another user's process needs root, and a container's seccomp profile or the setting kernel.yama.ptrace_scope may forbid it"
	}
	return ""
}
