package gatewaylaunch

import (
	"context"
	"os/exec"
	"sync"

	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
)

// Binds is a Starter that starts the gateway where its binds are seen, and
// answered as Config says. It needs what bindnotify.Supported calls Watch.
type Binds struct {
	// Context ends the answering; the binds are then made as if nothing were
	// there, and so they are when this process ends.
	Context context.Context
	Config  bindnotify.Config
	// Foreground is that of the Launcher: a bind that is held gives up when a
	// signal arrives that is going to be forwarded.
	Foreground bool

	mu    sync.Mutex
	binds []BindResult // of the newest start
}

// Start starts the command.
func (b *Binds) Start(cmd *exec.Cmd) error {
	b.mu.Lock()
	b.binds = nil
	b.mu.Unlock()
	config := b.Config
	config.On = func(e bindnotify.Event) {
		b.note(&e)
		if b.Config.On != nil {
			b.Config.On(e)
		}
	}
	tree, err := bindnotify.Start(b.Context, cmd, config)
	if err != nil {
		return err
	}
	if b.Foreground {
		go abandonOnSignal(b.Context, tree)
	}
	return nil
}

// note remembers a bind whose result is known. One of port 0 asks for any.
func (b *Binds) note(e *bindnotify.Event) {
	c := &e.Call
	if e.Kind != bindnotify.KindBind || e.How == bindnotify.HowPassed || !c.Addr.IsValid() || c.Addr.Port() == 0 {
		return
	}
	spec := netstate.NewBindSpec(c.Addr.Addr(), c.Addr.Port())
	spec.Family = c.Family
	if c.Options {
		spec.ReuseAddr, spec.ReusePort, spec.V6Only = c.ReuseAddr, c.ReusePort, c.V6Only
	}
	r := BindResult{Spec: spec, At: e.At}
	if e.Errno != 0 {
		r.Err = e.Errno
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.binds = append(b.binds, r)
}

// Watched returns the last bind of a port that the gateway did not get
// elsewhere; a bind that succeeded if there is no such one, and nil if it made
// none.
func (b *Binds) Watched() *BindResult {
	b.mu.Lock()
	defer b.mu.Unlock()
	return decisive(b.binds)
}

// decisive picks the bind that tells how the binding ended: a server that is
// refused at [::] and then content with 0.0.0.0 has its port.
func decisive(binds []BindResult) *BindResult {
	got := map[uint16]bool{}
	for i := range binds {
		if binds[i].Err == nil {
			got[binds[i].Spec.Port] = true
		}
	}
	var last *BindResult
	for i := range binds {
		r := &binds[i]
		refused := r.Err != nil
		if refused && got[r.Spec.Port] || !refused && last != nil && last.Err != nil {
			continue
		}
		last = r
	}
	return last
}
