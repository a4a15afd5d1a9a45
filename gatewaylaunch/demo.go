package gatewaylaunch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Demo is a small gateway to try restarts on: / is a sentence, /healthz says
// {"ok":true,"status":"live"}, and /stream keeps its connection open and sends
// a line each second.
//
// It closes its connections itself when it ends, so that they linger in
// TIME-WAIT on its port, as those of a real gateway under load do.
type Demo struct {
	// Addr is the address to listen on, "127.0.0.1:18789".
	Addr string
	// NoReuseAddr clears the SO_REUSEADDR that Go sets, as if the author had
	// forgotten it: the TIME-WAIT sockets that it leaves then block every
	// restart for a minute. It has no meaning on Windows.
	NoReuseAddr bool
	// UntilEOF, if set, ends the gateway when it is read to its end. On
	// standard input, which the Launcher's Tie keeps open, it makes sure that
	// the gateway never outlives berth. It is read until then even after Run.
	UntilEOF io.Reader
}

// demoShutdown bounds the end of a demo gateway: requests that are still
// being answered by then are cut off.
const demoShutdown = 2 * time.Second

// Run listens and serves until ctx ends or UntilEOF does, and returns nil
// then. It returns the error of the failed bind as the system gave it. What
// happens is written to out, a line each.
func (d Demo) Run(ctx context.Context, out io.Writer) error {
	ln, err := d.listen(ctx)
	if err != nil {
		return err
	}
	return d.Serve(ctx, ln, out)
}

func (d Demo) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	// Go asks for multipath TCP by default, which lists each socket twice.
	lc.SetMultipathTCP(false)
	if d.NoReuseAddr {
		lc.Control = clearReuseAddr
	}
	return lc.Listen(ctx, "tcp", d.Addr)
}

// Serve is Run on a listener that exists; it closes it.
func (d Demo) Serve(ctx context.Context, ln net.Listener, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if d.UntilEOF != nil {
		go func() {
			// Any error means that nobody holds the other end any more.
			_, _ = io.Copy(io.Discard, d.UntilEOF)
			cancel()
		}()
	}
	logger := log.New(out, "demo gateway: ", 0)
	server := &http.Server{
		Handler: d.handler(logger),
		// The streams end with ctx, before the connections are closed.
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          logger,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	logger.Printf("listening on http://%s", ln.Addr())
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	logger.Print("ending")
	late, cancelLate := context.WithTimeout(context.WithoutCancel(ctx), demoShutdown)
	defer cancelLate()
	if err := server.Shutdown(late); err != nil {
		_ = server.Close() // what did not end in time is cut off
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (d Demo) handler(logger *log.Logger) http.Handler {
	var streams atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "This is berth's demo gateway. /healthz tells its health, /stream keeps a connection open.")
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, `{"ok":true,"status":"live"}`)
	})
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, r *http.Request) {
		logger.Printf("stream to %s opened, %d in all", r.RemoteAddr, streams.Add(1))
		stream(w, r)
		logger.Printf("stream to %s closed, %d in all", r.RemoteAddr, streams.Add(-1))
	})
	return mux
}

// stream sends a line each second until the client or the server ends.
func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	flush := http.NewResponseController(w)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		if _, err := fmt.Fprintf(w, "line %d\n", n); err != nil {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}
