package gatewaylaunch

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"berth/netstate"
)

// Retry says how often and how far apart a refused bind is tried again. Only
// EADDRINUSE is: no other error of bind or listen goes away by waiting.
type Retry struct {
	// Retries is the number of further attempts after the first, and Interval
	// the pause between two of them: together the time that a taken port is
	// waited for. The next attempt comes the moment that the port is free, not
	// at the end of a pause.
	Retries  int
	Interval time.Duration
	// For, if set, is the time that everything may take, with as many attempts
	// as fit into it; Retries does not count then.
	For time.Duration
	// Notify, if set, is told of each refused attempt that another one follows,
	// by a *ListenError. Attempts count from 1. It is used by Listen only; a
	// Launcher's events tell more.
	Notify func(attempt int, err error)

	// These stand in for the system in tests; with listen alone there is none.
	listen func(ctx context.Context, network, address string) (net.Listener, error)
	system func() (Kernel, func(), error)
}

// DefaultRetry is 4 retries, 500 ms apart: 2 s in all.
func DefaultRetry() Retry { return Retry{Retries: 4, Interval: 500 * time.Millisecond} }

// attempts is the number of attempts in all, or 0 if only their time is given.
func (r Retry) attempts() int {
	if r.For > 0 {
		return 0
	}
	return 1 + max(0, r.Retries)
}

// budget is the time that a taken port is waited for.
func (r Retry) budget() time.Duration {
	if r.For > 0 {
		return r.For
	}
	return time.Duration(max(0, r.Retries)) * max(0, r.Interval)
}

// Listen listens as net.ListenConfig does and tries again while the address
// is in use: whenever the kernel reports that a socket of the port has ended,
// and at the latest after each interval. It returns any other error at once and
// unchanged, a *ListenError that names who holds the port when the attempts are
// used up, and an error that wraps ctx's when ctx ends.
func (r Retry) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	l := listening{Retry: r, network: network, address: address, start: time.Now()}
	if l.listen == nil {
		l.listen = new(net.ListenConfig).Listen
		l.system = openKernel
	}
	ln, err := l.run(ctx)
	if l.close != nil {
		l.close()
	}
	return ln, err
}

// listening is one call of Listen.
type listening struct {
	Retry
	network, address string
	start            time.Time
	kernel           Kernel            // nil if the port cannot be watched
	spec             netstate.BindSpec // what is watched
	close            func()
}

func (l *listening) run(ctx context.Context) (net.Listener, error) {
	var (
		refused error
		verdict *netstate.Verdict
		wake    <-chan struct{}
	)
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return nil, cancelled(l.address, refused, err)
		}
		ln, err := l.listen(ctx, l.network, l.address)
		if err == nil || !addressInUse(err) {
			return ln, err
		}
		if attempt == 1 {
			verdict, wake = l.look(watching)
		}
		refused = err
		told := &ListenError{Address: l.address, Attempts: attempt, Elapsed: time.Since(l.start), Err: err, Verdict: verdict}
		if attempt == l.attempts() || l.For > 0 && told.Elapsed >= l.For {
			if attempt > 1 {
				told.Verdict = l.why(ctx)
			}
			return nil, told
		}
		if l.Notify != nil {
			l.Notify(attempt, told)
		}
		ln, err = l.pause(ctx, wake)
		if ln != nil || err != nil {
			return ln, err
		}
	}
}

// pause waits for the interval. An event that some socket of the port has ended
// is worth a try in between, which is no attempt of its own: it only asks
// whether that was the one.
func (l *listening) pause(ctx context.Context, wake <-chan struct{}) (net.Listener, error) {
	most := l.Interval
	if l.For > 0 {
		most = min(most, l.For-time.Since(l.start))
	}
	end := time.NewTimer(most)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case <-end.C:
			return nil, nil
		case <-wake:
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		if ln, err := l.listen(ctx, l.network, l.address); err == nil || !addressInUse(err) {
			return ln, err
		}
	}
}

// look explains the refusal and subscribes to the port's events, as far as the
// system lets it: without both, Listen tries at the interval.
func (l *listening) look(ctx context.Context) (*netstate.Verdict, <-chan struct{}) {
	addr, err := net.ResolveTCPAddr(l.network, l.address)
	if err != nil || addr.Port == 0 {
		return nil, nil
	}
	ip, ok := netip.AddrFromSlice(addr.IP)
	switch {
	case ok:
		ip = ip.Unmap().WithZone(addr.Zone)
	case l.network == "tcp4":
		ip = netip.IPv4Unspecified()
	default:
		ip = netip.IPv6Unspecified()
	}
	if l.system == nil {
		return nil, nil
	}
	if l.kernel, l.close, err = l.system(); err != nil {
		l.kernel = nil
		return nil, nil
	}
	l.spec = netstate.NewBindSpec(ip, uint16(addr.Port))
	wake := l.kernel.Wake(ctx, l.spec)
	return l.why(ctx), wake
}

// why explains a refusal, or returns nil if nothing can.
func (l *listening) why(ctx context.Context) *netstate.Verdict {
	if l.kernel == nil {
		return nil
	}
	v, err := l.kernel.Why(ctx, l.spec)
	if err != nil || v.Bindable {
		return nil
	}
	return &v
}

func openKernel() (Kernel, func(), error) {
	sys, err := netstate.Open()
	if err != nil {
		return nil, nil, err
	}
	return NewKernel(sys), func() { _ = sys.Close() }, nil // closing a reader loses nothing
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

// ListenError says that an address was in use through all attempts so far. It
// unwraps to the last attempt's error, and so to EADDRINUSE.
type ListenError struct {
	Address  string
	Attempts int
	Elapsed  time.Duration
	Err      error
	// Verdict explains the refusal and names who holds the port; nil if nothing
	// visible does.
	Verdict *netstate.Verdict
}

func (e *ListenError) Error() string {
	tried := fmt.Sprintf("%s is still in use after %s in %s", e.Address, attemptsText(e.Attempts), netstate.Seconds(e.Elapsed))
	switch {
	case e.Verdict == nil:
		return fmt.Sprintf("%s: %v", tried, e.Err)
	case len(e.Verdict.Holders()) > 0:
		return fmt.Sprintf("%s: held by %s: %v", tried, holdersText(e.Verdict.Holders()), e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", tried, strings.TrimSuffix(e.Verdict.Summary, "."), e.Err)
}

// Hint returns what would help, the least harmful first.
func (e *ListenError) Hint() string {
	if e.Verdict == nil {
		return ""
	}
	return firstCure(e.Verdict)
}

// Unwrap returns Err.
func (e *ListenError) Unwrap() error { return e.Err }

func attemptsText(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}
