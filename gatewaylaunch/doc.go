// Package gatewaylaunch starts a server, "the gateway", and stays with it
// until it ends.
//
// A Launcher runs any command. It starts nothing while the port is known to be
// taken, names whoever holds it at once, and tries again when, and only when, the
// command ended because its address was taken. That the gateway is ready is
// evidence too: a process of its own tree listens on every expected address, and
// its health is good if that is asked.
//
//	l := gatewaylaunch.Launcher{
//		Command: gatewaylaunch.Command{Argv: []string{"node", "server.js"}},
//		Spec:    netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), 8080),
//		Retry:   gatewaylaunch.DefaultRetry(),
//		Kernel:  gatewaylaunch.NewKernel(sys),
//	}
//	status, err := l.Run(ctx, func(e gatewaylaunch.Event) { … })
//
// A server written in Go needs no launcher: Retry.Listen is the same retry
// around its own listen call.
//
// Demo is a small gateway to try all this on. It leaves real TIME-WAIT
// sockets behind when it is restarted under DemoClients.
//
// # When an attempt is started
//
// An attempt costs the server's whole start-up, and some servers retry in
// silence inside it, so that five blind attempts can take a minute. The rule:
//
//   - While a bind of the expected address is refused, with the gateway's own
//     options and with every option that could help it, no attempt is started.
//     EventHeld names the holder. The wait ends the moment the bind succeeds: the
//     kernel reports the end of a socket, and the end of a TIME-WAIT is known.
//   - At the end of the time to wait (Retries × Interval, 2 s by default, or what
//     is left of For) one attempt comes in any case: the gateway may bind
//     something else than was expected.
//   - Nothing is kept back if the port was only guessed, if a bind with other
//     options succeeds, or if what is left of the port outlasts the time to wait.
//     The last is told by the attempt, which then fails at once.
//   - After a refused attempt the address that was refused is waited for in the
//     same way. If nothing visible refuses it, the pause is the interval.
//   - Attempts that are refused although nothing seemed to be in the way follow
//     less and less quickly: the pause doubles up to eight times the interval.
//     The sixth in a row is the last (InUseError.Loop).
//
// Retry.Listen is the bind itself, which costs nothing: it is tried at each
// event and at each interval, and its error names the holder.
//
// # How a taken port is recognised
//
// The exit status proves nothing: 1 means everything. Evidence counts in this
// order:
//
//   - The gateway's own bind, if it was watched: its errno decides.
//   - The kernel's state: a bind of ours just before the start and one the moment
//     the gateway has ended, of the expected address and of those that the
//     gateway's words name, and listeners of others that were seen meanwhile.
//   - The gateway's words ("address already in use", EADDRINUSE, AddrInUse) on
//     either stream. They count if the kernel bears them out, or cannot tell:
//     because a bind of ours is not permitted, or because nobody told the port
//     and they name none. Where only another address than the expected one is
//     refused, they must be the last thing that was said.
//
// Without words, two refused binds count if the gateway said nothing at all; when
// its output goes to a terminal and cannot be seen, one is enough. A gateway that
// speaks of something else, that exited with status 0, or that listened before
// never counts as refused. Words that the kernel denies are told in EventExited.
//
// # Who ends whom
//
// In the foreground the gateway shares the terminal and its signals; the second
// signal of a kind kills it with what descends from it, and on Linux it is asked
// to end when this process has ended without having done so. In the background
// it has a session of its own, writes its log by itself, and goes on without this
// process; Record and Adopt let another process find it again.
//
// # Restart
//
// A Restart replaces a server that somebody else may have started by a new
// gateway, and hands the listening sockets over (package bindnotify), so that no
// client is refused. With Queue the old one ends first; if the new one then
// fails before it listens, nothing serves, and the clients that waited are
// reset. With Overlap the new one begins first; if it fails, nothing has
// happened. Where sockets cannot be handed over, Queue becomes Plain, and Overlap
// lets the new one's bind wait until the old one has ended, or becomes Plain too.
//
// Killed at any step, this process leaves one of the two servers, or with
// Queue, between the old one's end and the new one's start, none.
//
// # Linux notes
//
// The gateway's processes are found by session and by parent. A daemon that
// leaves both (two forks and setsid) is beyond reach. So is, in the foreground, a
// process whose parent has ended: it has the terminal's session, as the shell has.
//
// # Windows notes
//
// The gateway is asked to end by CTRL_BREAK, which it sees only if it shares
// this process's console, and then terminated. Its children are not followed.
package gatewaylaunch
