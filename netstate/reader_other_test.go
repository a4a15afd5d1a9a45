//go:build !linux

package netstate

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
)

// TestReadsItsOwnListener is the least that a reader has to do on any system:
// see a listener of this very process, name the process, and agree with bind.
func TestReadsItsOwnListener(t *testing.T) {
	ctx := context.Background()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	sys, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	snap, err := sys.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(snap.Sockets, func(s Socket) bool { return s.Local == addr && s.State == Listen })
	if i < 0 {
		t.Fatalf("%v is not listed among %d sockets", addr, len(snap.Sockets))
	}
	if s := snap.Sockets[i]; s.PID != os.Getpid() || s.Family != INET || s.Remote.IsValid() {
		t.Errorf("%+v, expected process %d", s, os.Getpid())
	}
	owners, err := sys.Owners(ctx, snap.Port(addr.Port()))
	if err != nil {
		t.Fatal(err)
	}
	hs := owners.OfAll(snap.Port(addr.Port()))
	if len(hs) != 1 || hs[0].Name == "" || len(hs[0].Parents) == 0 || hs[0].Parents[0].PID != os.Getppid() {
		t.Errorf("holders %+v", hs)
	}
	probe := TryBind(NewBindSpec(addr.Addr(), addr.Port()))
	if probe.Class() != ClassInUse || ErrnoName(probe.Err) != "EADDRINUSE" {
		t.Errorf("binding it again: %v (class %d)", probe.Err, probe.Class())
	}
	probe = TryBind(NewBindSpec(netip.MustParseAddr("192.0.2.1"), addr.Port()))
	if probe.Class() != ClassNoAddress || ErrnoName(probe.Err) != "EADDRNOTAVAIL" {
		t.Errorf("binding an address of nobody: %v (class %d)", probe.Err, probe.Class())
	}
	l.Close()
	if probe := TryBind(NewBindSpec(addr.Addr(), addr.Port())); !probe.Bindable() {
		t.Errorf("after its end: %v", probe.Err)
	}
}

func TestEndedProcessIsNotThere(t *testing.T) {
	p, err := os.StartProcess(os.Args[0], []string{os.Args[0], "-test.run=^$"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if id, err := IdentifyProcess(p.Pid); err == nil {
		t.Errorf("an ended process is %+v", id)
	}
	if self, err := IdentifyProcess(os.Getpid()); err != nil || self.Start == 0 {
		t.Errorf("this process is %+v, %v", self, err)
	}
}
