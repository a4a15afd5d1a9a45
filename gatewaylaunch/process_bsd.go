//go:build unix && !linux

package gatewaylaunch

import (
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"berth/netstate"
)

// group is the gateway's process with its process group. Its number cannot
// be given away while a member is left; that it is given away in the moment
// between the last member's end and a signal is not excluded here.
type group struct {
	leader *os.Process
	own    bool
}

func newGroup(leader *os.Process, own bool) *group { return &group{leader: leader, own: own} }

// adoptGroup is the group of a process that leads its session and that
// somebody else started.
func adoptGroup(id netstate.ProcessID) (*group, error) {
	leader, err := os.FindProcess(id.PID)
	return &group{leader: leader, own: true}, err
}

// dieWithParent does nothing: these systems have no such thing.
func dieWithParent(*exec.Cmd) {}

func (g *group) killTree() { g.kill() }

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
