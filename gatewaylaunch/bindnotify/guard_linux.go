//go:build amd64 || arm64

package bindnotify

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// handshakeMost bounds what takes milliseconds: the start of this program.
const handshakeMost = 20 * time.Second

// channelFD is where the guard and the other helper find their channel.
const channelFD = 3

// startGuard starts the guard.
func startGuard() (*channel, error) {
	c, end, err := newChannel()
	if err != nil {
		return nil, err
	}
	defer end.Close()
	if err := startHelper(guardName, end); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// guardState is the guard: it receives all that the kernel asks and passes it
// to the launcher, and answers by itself once that is gone.
type guardState struct {
	notify   notifier
	launcher *channel // nil once it is gone
	open     []*notification
}

// guard is the main function of the guard.
func guard() int {
	unix.CloseOnExec(channelFD)
	g := &guardState{launcher: &channel{channelFD}}
	var buf [8]byte
	n, fd, err := g.launcher.receive(buf[:], -1)
	if err != nil || n != 1 || buf[0] != sayAsk || fd < 0 {
		return statusFailed
	}
	g.notify = notifier{fd}
	if err := g.launcher.send([]byte{sayAsk}, -1); err != nil {
		// The program has not been told to start: its shim sees the launcher's
		// end as well.
		return statusFailed
	}
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: -1}}
		if g.launcher != nil {
			fds[1] = unix.PollFd{Fd: int32(g.launcher.fd), Events: unix.POLLIN}
		}
		events, err := wait(-1, fds...)
		switch {
		case err != nil:
			return statusFailed
		case events[1] != 0:
			g.takeOver() // the launcher never sends, so this is its end
		case events[0]&unix.POLLIN != 0:
			q, err := g.notify.receive()
			if err != nil {
				return statusFailed
			}
			if q != nil {
				g.pass(q)
			}
		case events[0] != 0:
			return 0 // the last process of the tree has ended
		}
	}
}

func (g *guardState) pass(q *notification) {
	if g.launcher == nil {
		g.notify.reply(q, settle(g.notify, q))
		return
	}
	g.open = slices.DeleteFunc(g.open, func(o *notification) bool { return !g.notify.valid(o) })
	g.open = append(g.open, q)
	if err := g.launcher.send(q.bytes(), -1); err != nil {
		g.takeOver()
	}
}

// takeOver answers what the launcher has left open.
func (g *guardState) takeOver() {
	g.launcher.close()
	g.launcher = nil
	for _, q := range g.open {
		if g.notify.valid(q) {
			g.notify.reply(q, settle(g.notify, q))
		}
	}
	g.open = nil
}

// settle answers as if nobody were there, except that a bind that was made
// already is not made twice: the second one would fail with EINVAL.
func settle(notify notifier, q *notification) answer {
	if q.nr != unix.SYS_BIND {
		return passed
	}
	t, err := openTarget(notify, q)
	if err != nil {
		return passed
	}
	defer t.close()
	addr, err := t.readAddress(q)
	if err != nil || addr.port == 0 {
		return passed
	}
	s, err := t.socket(q)
	if err != nil {
		return passed
	}
	defer s.close()
	if s.stream() && s.boundTo(addr) {
		return answer{}
	}
	return passed
}

// errGuard says that the guard did not come up.
var errGuard = errors.New("the guard does not answer")

// hand gives the guard its descriptor and returns once it has it.
func (c *channel) hand(notify notifier) error {
	if err := c.send([]byte{sayAsk}, notify.fd); err != nil {
		return err
	}
	var buf [8]byte
	n, _, err := c.receive(buf[:], handshakeMost)
	if err != nil {
		return errors.Join(errGuard, err)
	}
	if n != 1 || buf[0] != sayAsk {
		return errGuard
	}
	return nil
}
