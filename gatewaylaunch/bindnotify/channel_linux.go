//go:build amd64 || arm64

package bindnotify

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// channel is one end of a pair of connected sockets that keep messages apart
// and can carry a descriptor. It blocks its thread, which the shim needs and
// the others can afford.
type channel struct{ fd int }

// newChannel returns this process's end, and the other one for a child.
func newChannel() (*channel, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return &channel{fds[0]}, os.NewFile(uintptr(fds[1]), "bindnotify"), nil
}

func (c *channel) close() { unix.Close(c.fd) }

// send sends a message, which must not be empty, and a descriptor if fd is
// not negative.
func (c *channel) send(message []byte, fd int) error {
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	for {
		err := unix.Sendmsg(c.fd, message, rights, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// receive returns the next message and the descriptor that came with it, or
// -1. The error is io.EOF if the other end is closed and
// os.ErrDeadlineExceeded after the timeout, which is none if it is negative.
func (c *channel) receive(buf []byte, timeout time.Duration) (n, fd int, err error) {
	if timeout >= 0 {
		ready, err := wait(timeout, unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN})
		if err != nil {
			return 0, -1, err
		}
		if ready == nil {
			return 0, -1, os.ErrDeadlineExceeded
		}
	}
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(c.fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECONNRESET), err == nil && n == 0:
			return 0, -1, io.EOF
		case err != nil:
			return 0, -1, os.NewSyscallError("recvmsg", err)
		}
		return n, descriptorIn(oob[:oobn]), nil
	}
}

func descriptorIn(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	return fds[0]
}

// wait polls the descriptors and returns their events, or nil when the time is
// over. A negative time is endless.
func wait(timeout time.Duration, fds ...unix.PollFd) ([]int16, error) {
	deadline := time.Now().Add(timeout)
	for {
		ms := -1
		if timeout >= 0 {
			ms = int(max(time.Until(deadline), 0) / time.Millisecond)
		}
		n, err := unix.Poll(fds, ms)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, os.NewSyscallError("poll", err)
		case n == 0:
			return nil, nil
		}
		events := make([]int16, len(fds))
		for i := range fds {
			events[i] = fds[i].Revents
		}
		return events, nil
	}
}
