package gatewaylaunch

import (
	"context"
	"fmt"
	"net"
	"time"

	"berth/netstate"
)

// Retry says how often and how far apart a refused bind is tried again. Only
// EADDRINUSE is: no other error of bind or listen goes away by waiting.
type Retry struct {
	// Retries is the number of further attempts after the first.
	Retries int
	// Interval is the pause between two attempts.
	Interval time.Duration
	// Notify, if set, is told of each refused attempt that another one
	// follows. Attempts count from 1.
	Notify func(attempt int, err error)

	// listen stands in for the system in tests.
	listen func(ctx context.Context, network, address string) (net.Listener, error)
}

// DefaultRetry is 4 retries, 500 ms apart: 2 s in all.
func DefaultRetry() Retry { return Retry{Retries: 4, Interval: 500 * time.Millisecond} }

// attempts is the number of attempts in all.
func (r Retry) attempts() int { return 1 + max(0, r.Retries) }

// Listen listens as net.ListenConfig does and tries again while the address
// is in use. It returns any other error at once and unchanged, a *ListenError
// when the attempts are used up, and an error that wraps ctx's when ctx ends.
func (r Retry) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	listen := r.listen
	if listen == nil {
		listen = new(net.ListenConfig).Listen
	}
	start := time.Now()
	var refused error
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return nil, cancelled(address, refused, err)
		}
		ln, err := listen(ctx, network, address)
		if err == nil {
			return ln, nil
		}
		if !addressInUse(err) {
			return nil, err
		}
		if attempt == r.attempts() {
			return nil, &ListenError{Address: address, Attempts: attempt, Elapsed: time.Since(start), Err: err}
		}
		refused = err
		if r.Notify != nil {
			r.Notify(attempt, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(r.Interval):
		}
	}
}

func cancelled(address string, refused, err error) error {
	if refused == nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	return fmt.Errorf("waiting for %s ended: %w; the last attempt said: %w", address, err, refused)
}

// addressInUse knows the error of every system, which errors.Is with
// syscall.EADDRINUSE does not on Windows.
func addressInUse(err error) bool {
	return netstate.Probe{Err: err}.Class() == netstate.ClassInUse
}

// ListenError says that an address stayed in use through all attempts. It
// unwraps to the last attempt's error, and so to EADDRINUSE.
type ListenError struct {
	Address  string
	Attempts int
	Elapsed  time.Duration
	Err      error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("%s is still in use after %s in %s: %v", e.Address, attemptsText(e.Attempts), netstate.Seconds(e.Elapsed), e.Err)
}

// Unwrap returns Err.
func (e *ListenError) Unwrap() error { return e.Err }

func attemptsText(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}
