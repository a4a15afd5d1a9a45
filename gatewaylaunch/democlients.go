package gatewaylaunch

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// DemoClients keeps streaming connections to a Demo open, so that a restart
// has something to cut off. A client closes its connection only after the
// gateway has: whoever closes first keeps the TIME-WAIT socket, and it is to
// stay on the gateway's port.
type DemoClients struct {
	Addr string // the gateway's
	N    int    // number of connections
	// Pause is the time between the end of a connection, or a refused one,
	// and the next; 0 means 300 ms.
	Pause time.Duration
}

// Run keeps the connections until ctx ends, then closes them and returns.
func (c DemoClients) Run(ctx context.Context) {
	pause := c.Pause
	if pause == 0 {
		pause = 300 * time.Millisecond
	}
	var clients sync.WaitGroup
	defer clients.Wait()
	for range c.N {
		clients.Go(func() {
			for ctx.Err() == nil {
				c.stream(ctx)
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
}

// stream keeps one connection until the gateway or ctx ends it. Its errors
// mean that there is no gateway now; the next round tries again.
func (c DemoClients) stream(ctx context.Context) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.Addr)
	if err != nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() {
		// A reset leaves no TIME-WAIT on an ephemeral port of this machine,
		// where it would be one more thing that blocks somebody's bind.
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	})
	defer stop()
	if _, err := fmt.Fprintf(conn, "GET /stream HTTP/1.1\r\nHost: %s\r\n\r\n", c.Addr); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, conn)
}
