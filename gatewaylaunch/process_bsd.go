//go:build unix && !linux

package gatewaylaunch

import (
	"os"

	"golang.org/x/sys/unix"
)

// group is the gateway's process with its process group. Its number cannot
// be given away while a member is left; that it is given away in the moment
// between the last member's end and a signal is not excluded here.
type group struct {
	leader *os.Process
	own    bool
}

func newGroup(leader *os.Process, own bool) *group { return &group{leader: leader, own: own} }

func (g *group) terminate() { g.signal(unix.SIGTERM) }
func (g *group) kill()      { g.signal(unix.SIGKILL) }

// signal ignores failures: they mean that the process has ended or may not be
// signalled, and alive tells what is left.
func (g *group) signal(sig unix.Signal) {
	if g.own {
		_ = unix.Kill(-g.leader.Pid, sig)
	} else {
		_ = g.leader.Signal(sig)
	}
}

// alive reports whether a member of the group lives. It is asked only after
// the leader was collected.
func (g *group) alive() bool { return g.own && unix.Kill(-g.leader.Pid, 0) == nil }

func (g *group) release() {}
