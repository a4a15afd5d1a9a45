package gatewaylaunch

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
)

func TestDecisiveBind(t *testing.T) {
	bind := func(port uint16, err error) BindResult {
		return BindResult{Spec: netstate.NewBindSpec(netip.IPv6Loopback(), port), Err: err}
	}
	inUse, denied := syscall.EADDRINUSE, syscall.EACCES
	for name, c := range map[string]struct {
		binds []BindResult
		want  int // index, or -1
	}{
		"none":                               {nil, -1},
		"one that succeeded":                 {[]BindResult{bind(1, nil)}, 0},
		"the last that succeeded":            {[]BindResult{bind(1, nil), bind(2, nil)}, 1},
		"refused":                            {[]BindResult{bind(1, inUse)}, 0},
		"refused, then elsewhere":            {[]BindResult{bind(1, inUse), bind(1, nil)}, 1},
		"got, then refused at a second host": {[]BindResult{bind(1, nil), bind(1, inUse)}, 0},
		"one port got, the other refused":    {[]BindResult{bind(1, nil), bind(2, inUse), bind(3, nil)}, 1},
		"the last refusal":                   {[]BindResult{bind(1, inUse), bind(2, denied), bind(3, nil)}, 1},
	} {
		got := decisive(c.binds)
		if c.want < 0 && got != nil || c.want >= 0 && got != &c.binds[c.want] {
			t.Errorf("%s: %+v, want number %d of %+v", name, got, c.want, c.binds)
		}
	}
}

// TestWatchedBindDecides: what a gateway says about its end does not count
// where its own bind was seen.
func TestWatchedBindDecides(t *testing.T) {
	if s := bindnotify.Supported(t.Context()); !s.Watch {
		t.Skipf("needs what watching binds needs: %v", s.Err)
	}
	// The holder is at another port than the launcher expects, as where the
	// port is in a file that only the gateway reads.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().(*net.TCPAddr).AddrPort()
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	l := Launcher{
		Command: helperCommand("mute", addr.String()),
		Spec:    netstate.NewBindSpec(addr.Addr(), addr.Port()-1),
		Retry:   Retry{Retries: 1, Interval: 10 * time.Millisecond},
		Kernel:  NewKernel(sys),
	}
	if r := launch(t, l, nil); r.err != nil {
		t.Errorf("without watching, error %v", r.err)
	}
	l.Starter = &Binds{Context: t.Context()}
	r := launch(t, l, nil)
	var inUse *InUseError
	if !errors.As(r.err, &inUse) || inUse.Attempts != 2 || inUse.Verdict.Spec.AddrPort() != addr {
		t.Errorf("watched, error %v", r.err)
	}
}
