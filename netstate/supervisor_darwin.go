package netstate

import "golang.org/x/sys/unix"

// rawEnviron asks for the arguments and the environment that the process was
// started with. The system refuses it for other users' processes and leaves
// the environment out for its own programs.
func rawEnviron(pid int) []string {
	b, err := unix.SysctlRaw("kern.procargs2", pid)
	if err != nil {
		return nil
	}
	return parseProcArgs(b)
}
