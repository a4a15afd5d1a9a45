package bindnotify

import (
	"net/netip"
	"syscall"
	"testing"
	"time"
)

func TestEventText(t *testing.T) {
	call := Call{PID: 7, Program: "node", Addr: netip.MustParseAddrPort("[::1]:80"), Options: true, ReuseAddr: true, V6Only: true, Backlog: 511}
	for want, e := range map[string]Event{
		"bind [::1]:80, SO_REUSEADDR, IPV6_V6ONLY: ok (node 7)":         {Kind: KindBind},
		"bind [::1]:80, SO_REUSEADDR, IPV6_V6ONLY: EADDRINUSE (node 7)": {Kind: KindBind, Errno: syscall.EADDRINUSE},
		"listen [::1]:80, backlog 511: ok (node 7)":                     {Kind: KindListen},
		"bind [::1]:80, SO_REUSEADDR, IPV6_V6ONLY: has got the old server's socket after it waited 1.5 s (node 7)": {
			Kind: KindBind, How: HowGiven, Waited: 1500 * time.Millisecond},
		"bind [::1]:80, SO_REUSEADDR, IPV6_V6ONLY: waits, since it is taken (node 7)":     {Kind: KindHeld},
		"bind [::1]:80, SO_REUSEADDR, IPV6_V6ONLY: made without being seen, why (node 7)": {Kind: KindBind, How: HowPassed, Why: "why"},
	} {
		e.Call = call
		if got := e.Text(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
