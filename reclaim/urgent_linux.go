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
	before, err := unix.SchedGetAttr(0, 0)
	if err == nil {
		const lowest = 1
		err = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: lowest}, 0)
	}
	do()
	if err == nil && unix.SchedSetAttr(0, before, 0) != nil {
		return // nothing else is to run on this thread, which ends with its goroutine
	}
	runtime.UnlockOSThread()
}
