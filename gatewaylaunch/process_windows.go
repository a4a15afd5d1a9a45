package gatewaylaunch

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/windows"

	"berth/netstate"
)

// ownGroup puts the command into a process group of its own, so that Ctrl-C
// in this console does not reach it and CTRL_BREAK can be sent to it alone.
func ownGroup(cmd *exec.Cmd, own bool) {
	if own {
		cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	}
}

// inSession is false, since a process of another parent cannot be told to
// belong to the gateway here.
func inSession(int, int) bool { return false }

// group is the gateway's process alone: the system keeps no list of what it
// started unless it runs in a job object.
type group struct {
	leader *os.Process
	own    bool
}

func newGroup(leader *os.Process, own bool) *group { return &group{leader: leader, own: own} }

func adoptGroup(id netstate.ProcessID) (*group, error) {
	leader, err := os.FindProcess(id.PID)
	return &group{leader: leader, own: true}, err
}

// dieWithParent does nothing: this system has no such thing without a job
// object.
func dieWithParent(*exec.Cmd) {}

func (g *group) killTree() { g.kill() }

// errNoUser says that another user's rights cannot be had here.
var errNoUser = errors.New("a command cannot be started as another user on this system")

func (u *User) apply(*exec.Cmd) error {
	if u == nil {
		return nil
	}
	return errNoUser
}

// terminate asks by CTRL_BREAK, which a program without a console never sees;
// such a one ends with kill.
func (g *group) terminate() {
	if !g.own || windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(g.leader.Pid)) != nil {
		g.kill()
	}
}

// kill ignores failures: they mean that the process has ended already.
func (g *group) kill() { _ = g.leader.Kill() }

func (g *group) alive() bool { return false }

func (g *group) release() {}

func exitStatus(state *os.ProcessState) ExitStatus { return ExitStatus{Code: state.ExitCode()} }

// statusOfSignal is the status of a launch that Ctrl-C ended while no gateway
// was running.
func statusOfSignal(os.Signal) ExitStatus { return ExitStatus{Code: 130} }

func notifySignals(c chan<- os.Signal) { signal.Notify(c, os.Interrupt) }

func ends(os.Signal) bool { return true }

// delivered: Ctrl-C reaches every process of the console.
func delivered(os.Signal) bool { return true }
