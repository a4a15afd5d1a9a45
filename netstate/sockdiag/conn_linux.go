package sockdiag

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// bufferSize is what the kernel fills at most in one part of a dump; a larger
// buffer gains nothing and a smaller one costs more calls.
const bufferSize = 32 << 10

// answerTimeout ends a wait for an answer that will never come, such as under
// a seccomp filter that swallows netlink. A dump answers within microseconds.
const answerTimeout = 5 * time.Second

// Conn is a netlink socket with its buffers. One goroutine at a time.
type Conn struct {
	fd  int
	seq uint32
	// kernel is the address of the kernel, port id 0. It is not shared between
	// connections, because Sendto writes its wire form into the value.
	kernel unix.SockaddrNetlink
	buf    []byte
	req    []byte
	rec    Record
}

// Dial opens the netlink socket. An error unwraps to the system's: a sandbox
// that refuses netlink answers EPERM, EACCES or EPROTONOSUPPORT.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket NETLINK_SOCK_DIAG", err)
	}
	tv := unix.NsecToTimeval(answerTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	return &Conn{fd: fd, kernel: unix.SockaddrNetlink{Family: unix.AF_NETLINK}, buf: make([]byte, bufferSize)}, nil
}

// Close closes the netlink socket.
func (c *Conn) Close() error { return os.NewSyscallError("close", unix.Close(c.fd)) }

// Dump calls visit for each socket of q until it returns false. The record is
// reused: copy what outlives the call.
func (c *Conn) Dump(q Query, visit func(*Record) bool) error {
	if q.Protocol == 0 || q.Protocol == TCP {
		c.seq++
		c.req = appendDump(c.req[:0], c.seq, q)
		_, err := c.dump(visit)
		return err
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		c.seq++
		c.req = appendFamilyDump(c.req[:0], c.seq, q, family)
		if more, err := c.dump(visit); err != nil || !more {
			return err
		}
	}
	return nil
}

// dump sends the request and reports whether visit wanted all that came.
func (c *Conn) dump(visit func(*Record) bool) (wanted bool, err error) {
	if err := c.send(); err != nil {
		return false, err
	}
	wanted = true
	err = c.answers(func(m message) (bool, error) {
		switch {
		case m.typ == typeDone:
			// The kernel says in it why it broke off, such as ENOENT where it
			// knows no sockets of this protocol.
			return true, c.refused("dump", m.body)
		case m.typ == typeError:
			return true, c.refused("dump", m.body)
		case !m.isSocket() || !wanted:
			return false, nil
		}
		if err := c.rec.parse(m.body); err != nil {
			return true, err
		}
		wanted = visit(&c.rec)
		return false, nil
	})
	return wanted, err
}

// Destroy ends the socket that r describes. It returns an error that unwraps
// to ENOENT if the socket is gone already, EPERM without CAP_NET_ADMIN, and
// EOPNOTSUPP on a kernel without CONFIG_INET_DIAG_DESTROY.
func (c *Conn) Destroy(r *Record) error {
	c.seq++
	c.req = appendDestroy(c.req[:0], c.seq, r, true)
	if err := c.send(); err != nil {
		return err
	}
	return c.answers(func(m message) (bool, error) {
		if m.typ != typeError {
			return false, nil
		}
		return true, c.refused("destroy", m.body)
	})
}

// destroyBatch is how many requests are sent at once. Each may be refused with
// an answer of its own, and all of these must fit into the receive buffer.
const destroyBatch = 128

// DestroyAll ends the sockets in their order, many with each call of the
// kernel, and returns how many it ended before the first failure; one that is
// gone already counts. The errors are those of Destroy, and some sockets after
// the one that was refused may have ended too.
func (c *Conn) DestroyAll(records []Record) (int, error) {
	for done := 0; done < len(records); {
		batch := records[done:min(done+destroyBatch, len(records))]
		n, err := c.destroyBatch(batch)
		done += n
		if err != nil {
			return done, err
		}
	}
	return len(records), nil
}

// destroyBatch asks for an answer to the last request only. The others are
// answered only if they fail, and all that comes before the last one's.
func (c *Conn) destroyBatch(batch []Record) (int, error) {
	first := c.seq + 1
	c.req = c.req[:0]
	for i := range batch {
		c.seq++
		c.req = appendDestroy(c.req, c.seq, &batch[i], i == len(batch)-1)
	}
	if err := c.send(); err != nil {
		return 0, err
	}
	ended, failure := len(batch), error(nil)
	for {
		n, err := c.receive()
		if err != nil {
			return 0, err
		}
		for b := c.buf[:n]; len(b) > 0; {
			m, rest, err := next(b)
			if err != nil {
				return 0, err
			}
			b = rest
			at := m.seq - first // beyond the batch, also for what is older
			if m.typ != typeError || at >= uint32(len(batch)) {
				continue
			}
			if err := c.refused("destroy", m.body); err != nil && !errors.Is(err, unix.ENOENT) && failure == nil {
				ended, failure = int(at), err
			}
			if m.seq == c.seq {
				return ended, failure
			}
		}
	}
}

// answers calls visit for each message that answers the last request, until
// visit says that it was the last one. What is left of an earlier request that
// was given up is passed over.
func (c *Conn) answers(visit func(message) (last bool, err error)) error {
	for {
		n, err := c.receive()
		if err != nil {
			return err
		}
		for b := c.buf[:n]; len(b) > 0; {
			m, rest, err := next(b)
			if err != nil {
				return err
			}
			b = rest
			if m.seq != c.seq {
				continue
			}
			if last, err := visit(m); last {
				return err
			}
		}
	}
}

// refused turns the body of NLMSG_ERROR into an error, or nil for code 0.
func (c *Conn) refused(op string, body []byte) error {
	code, err := errno(body)
	if err != nil || code == 0 {
		return err
	}
	return os.NewSyscallError("sock_diag "+op, unix.Errno(code))
}

func (c *Conn) send() error {
	for {
		err := unix.Sendto(c.fd, c.req, 0, &c.kernel)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("sendto NETLINK_SOCK_DIAG", err)
		}
	}
}

func (c *Conn) receive() (int, error) {
	for {
		// Recvfrom would allocate a sender's address for each part.
		n, err := unix.Read(c.fd, c.buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return 0, fmt.Errorf("the kernel did not answer sock_diag within %v: %w", answerTimeout, os.ErrDeadlineExceeded)
		case err != nil:
			return 0, os.NewSyscallError("read NETLINK_SOCK_DIAG", err)
		}
		return n, nil
	}
}
