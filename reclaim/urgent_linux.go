package reclaim

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Urgent gives the calling thread a real-time priority while do runs, where
// this process may (CAP_SYS_NICE). A process that is woken by its SIGKILL would
// otherwise often take this thread's place on the processor, to free its memory
// there for milliseconds before do goes on.
func (*System) Urgent(do func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		do()
		return
	}
	const lowest = 1
	urgent := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: lowest, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if err := unix.SchedSetAttr(0, &urgent, 0); err != nil {
		do()
		return
	}
	defer unix.SchedSetAttr(0, before, 0)
	do()
}
