// Package bindnotify answers the bind and listen calls of a program that
// knows nothing of it, so that a server can be watched, made to wait for its
// port, or given the listening socket of its predecessor.
//
// Start starts a command under a filter of the kernel (seccomp user
// notification) that stops its processes in bind(2) and listen(2) and nowhere
// else, and lets this process answer. What the answer is hangs on the Config:
//
//   - watch, always: the call is made on a duplicate of the program's own
//     socket, and its real result returned. Config.On hears of it.
//   - hold: while that result is EADDRINUSE, the program is kept waiting. It
//     does not learn that its port was taken.
//   - hand-over: if Sockets has a listening socket for the address that the
//     program asks for, its descriptor is replaced by that socket, and bind
//     succeeds. What clients have queued there is served by the new program.
//
// The program that calls Start is started again for three purposes of the
// package's own, so its main function, and a test's TestMain, must begin with
//
//	if status, ok := bindnotify.Shim(); ok {
//		os.Exit(status)
//	}
//
// Supported tells what works on this machine, and in a sentence why the rest
// does not. Where Start returns an error, nothing was started, and the command
// can be started without it.
//
// # How it works
//
// The command is started through a shim: this program, which installs the
// filter on one thread, hands over the descriptor by which the kernel asks, and
// becomes the command by exec. Pid, session, terminal and files are those that
// the command would have had.
//
// Somebody must answer until the last process of the tree has ended, or each
// later bind in it would fail with ENOSYS. So a second process, the guard, in a
// session of its own, receives what the kernel asks and passes it on. When
// this process ends, however that happens, the guard answers what is open and
// all that comes: by "make the call as if nothing were there", or by success if
// the call had been made already. It ends with the tree.
//
// # What it is not
//
// It is no boundary of security: the program may change its memory while it is
// looked at. Calls through io_uring and from 32-bit programs pass by unseen.
// An ordinary user can have the filter only together with no_new_privs, with
// which programs like sudo lose their rights; Tree.NoNewPrivs tells.
//
// # Kernels
//
// Linux 5.6 and later for watch and hold and 5.9 for the hand-over, on x86-64
// and arm64. Before 5.19 a signal interrupts a bind that is held. Elsewhere
// Start returns an error that unwraps to errors.ErrUnsupported.
package bindnotify
