// Package gatewaylaunch starts a server, "the gateway", and stays with it
// until it ends.
//
// A Launcher runs any command. It tries again when, and only when, the command
// ended because its port was taken and the port can become free by itself; it
// names whoever holds the port at once. That the gateway is ready is evidence
// too: a process of its own tree listens on the port.
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
// # How a taken port is recognised
//
// The exit status proves nothing: 1 means everything. Three things count.
// The gateway's own words ("address already in use", EADDRINUSE, AddrInUse)
// on either stream; a real bind of ours just before the start; and another one
// the moment the gateway has ended. Words count alone. Two refused binds count
// if the gateway said nothing at all; when its output goes to a terminal and
// cannot be seen, one is enough. A gateway that speaks of something else, that
// exited with status 0, or that listened before never counts as refused.
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
// leaves both (two forks and setsid) is beyond reach.
//
// # Windows notes
//
// The gateway is asked to end by CTRL_BREAK, which it sees only if it shares
// this process's console, and then terminated. Its children are not followed.
package gatewaylaunch
