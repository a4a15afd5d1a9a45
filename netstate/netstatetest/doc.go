// Package netstatetest is a scripted kernel for tests: a table of sockets and
// processes that binds, signals and time act upon as on Linux, without a real
// socket or process.
//
// It is made for testing/synctest: every delay is a timer, so inside a bubble
// a minute of TIME-WAIT takes no time, and the same events come in the same
// order in every run.
//
//	k := netstatetest.New()
//	node := k.Start(netstate.Holder{Name: "node"}, netstatetest.Behaviour{Term: 1200 * time.Millisecond})
//	k.Listen(node, spec)
//
// A [Kernel] has the methods that packages reclaim and gatewaylaunch ask of a
// kernel. Only Open and a process's Take return this package's own types, which
// a test wraps:
//
//	type kernel struct{ *netstatetest.Kernel }
//
//	func (k kernel) Open(h netstate.Holder) (reclaim.Process, error) {
//		p, err := k.Kernel.Open(h.ID)
//		switch {
//		case errors.Is(err, netstatetest.ErrStale):
//			return nil, reclaim.ErrStale
//		case err != nil:
//			return nil, reclaim.ErrGone
//		}
//		return process{p}, nil
//	}
package netstatetest
