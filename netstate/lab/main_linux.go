package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageEnv holds the network namespace outside, as /proc names it, in a
// process that Main has put into another; before it, "enter " in the process
// that has still to prepare it. Comparing names means that a variable that
// was merely inherited, or forged, cannot make tests believe they are inside.
const stageEnv = "BERTH_LAB_OUTSIDE"

const enterPrefix = "enter "

// reportFD is where the entering process says what failed. It closes when the
// tests' process image replaces it, which tells that all went well.
const reportFD = 3

func isolated() bool {
	outside := os.Getenv(stageEnv)
	here, err := currentNetNS()
	return err == nil && outside != "" && !strings.HasPrefix(outside, enterPrefix) && here != outside
}

func currentNetNS() (string, error) { return os.Readlink("/proc/self/ns/net") }

func runTests(m Runner) int {
	if isolated() {
		return m.Run()
	}
	if outside, ok := strings.CutPrefix(os.Getenv(stageEnv), enterPrefix); ok {
		err := enter(outside)
		fmt.Fprint(os.NewFile(reportFD, "report"), err)
		return 1
	}
	code, err := runInside()
	if err != nil {
		os.Setenv(failureEnv, err.Error())
		return m.Run()
	}
	// Not os.Exit, which under the race detector waits a second for reports.
	// The process that ran the tests has done that, and this one ran none.
	syscall.Exit(code)
	return code
}

// runInside executes this program again in a new network namespace and
// returns its exit status, or an error if it was not possible; no test has run
// then. An ordinary user may make one only inside a new user namespace.
func runInside() (int, error) {
	outside, err := currentNetNS()
	if err != nil {
		return 0, err
	}
	report, reportWrite, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer report.Close()
	defer reportWrite.Close()

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageEnv+"="+enterPrefix+outside)
	cmd.ExtraFiles = []*os.File{reportWrite} // becomes reportFD
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
		// A group of its own: a key on the terminal then reaches the tests
		// once, through this process, and not twice.
		Setpgid: true,
	}
	if uid := os.Geteuid(); uid != 0 {
		gid := os.Getegid()
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		// The one thing that has to be done inside is to bring lo up; enter
		// gives the capability back before any test runs.
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	}

	// Pdeathsig means the death of the thread that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	reportWrite.Close()
	if failure, err := io.ReadAll(report); err != nil || len(failure) > 0 {
		cmd.Wait()
		return 0, errors.Join(err, errors.New(string(failure)))
	}

	ended := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		for {
			select {
			case s := <-signals:
				// An error means that it has just ended, which Wait tells.
				_ = cmd.Process.Signal(s)
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	<-forwarded
	if cmd.ProcessState == nil {
		return 1, nil
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		fmt.Fprintf(os.Stderr, "lab: the tests were ended by a signal: %v\n", err)
		return 128 + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

// enter prepares the namespace that this process was started in and becomes
// the process that runs the tests. It returns only if that failed.
func enter(outside string) error {
	here, err := currentNetNS()
	if err != nil {
		return err
	}
	if here == outside {
		return errors.New("the network namespace did not change")
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	// Capabilities belong to a thread. The new process image has those of the
	// thread that executes it, so it is enough, and also the only way without
	// stopping every other thread, to drop them here and execute.
	runtime.LockOSThread()
	if os.Geteuid() != 0 {
		if err := dropCapabilities(); err != nil {
			return fmt.Errorf("drop the capabilities: %w", err)
		}
	}
	unix.CloseOnExec(reportFD)
	if err := os.Setenv(stageEnv, outside); err != nil {
		return err
	}
	return os.NewSyscallError("exec", syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("ioctl SIOCSIFFLAGS", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req))
}

// dropCapabilities empties the ambient, inheritable, permitted and effective
// sets of this thread, so that the next exec begins without any.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_CAP_AMBIENT", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return os.NewSyscallError("capset", unix.Capset(&header, &none[0]))
}
