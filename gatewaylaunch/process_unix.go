//go:build unix

package gatewaylaunch

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownGroup puts the command into a session of its own, so that no signal of
// this terminal reaches it and its descendants can be found by the session.
func ownGroup(cmd *exec.Cmd, own bool) {
	if !own {
		return
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
}

// apply lets the command have the user's rights and no others.
func (u *User) apply(cmd *exec.Cmd) error {
	if u == nil {
		return nil
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}}
	return nil
}

func inSession(pid, leader int) bool {
	sid, err := unix.Getsid(pid)
	return err == nil && sid == leader
}

func exitStatus(state *os.ProcessState) ExitStatus {
	ws, ok := state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return ExitStatus{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal())}
	}
	return ExitStatus{Code: state.ExitCode()}
}

// statusOfSignal is the status of a launch that a signal ended while no
// gateway was running.
func statusOfSignal(sig os.Signal) ExitStatus {
	n := int(sig.(syscall.Signal))
	return ExitStatus{Code: 128 + n, Signal: n}
}

// notifySignals receives what a gateway in the foreground must hear of. What
// this process was told to ignore, by nohup or a shell's "&", stays ignored.
func notifySignals(c chan<- os.Signal) {
	for _, sig := range []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2} {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
}

// ends reports whether a signal asks a program without a gateway to end.
func ends(sig os.Signal) bool { return sig != unix.SIGUSR1 && sig != unix.SIGUSR2 }

// delivered reports whether the terminal has sent sig to the gateway as well:
// a key press reaches every process of the terminal's foreground group. To
// forward it would be a second one, which many servers take as "now".
func delivered(sig os.Signal) bool {
	if sig != unix.SIGINT && sig != unix.SIGQUIT {
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return false // no terminal: somebody sent the signal to this process
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}
