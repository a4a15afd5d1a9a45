// Package lab brings real sockets into a wanted state on the loopback
// interface, and gives tests a network of their own to do it in.
//
// A test binary that calls [Main] from TestMain runs all its tests inside a
// network namespace made for it, so that any port may be used, nothing else is
// listening, and everything left behind ends with it:
//
//	func TestMain(m *testing.M) { lab.Main(m) }
//
//	func TestPort8080(t *testing.T) {
//		lab.NeedNamespace(t)
//		…
//	}
//
// An ordinary user gets the namespace too, with all capabilities dropped
// before the first test, so that what is tested is what an ordinary user sees.
//
// A state is made either at once, by [Make], or from its parts: [Listen] or
// [Bound] for a socket, Dial for a connection, and a method of the end that is
// to change for each state that a connection can be in:
//
//	l, err := lab.Listen(netip.MustParseAddrPort("127.0.0.1:8080"), lab.Options{})
//	c, err := l.Dial(lab.Route{})
//	err = c.Server.TimeWait() // port 8080 is now in TIME-WAIT for 60 s
//
// Each function returns when the kernel confirms the state, and none of them
// sleeps. The socket functions exist on Linux only.
package lab
