package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/reclaim"
	"berth/ui/report"
)

// binds are the flags that say what becomes of a gateway's own binds.
type binds struct {
	watch, hold bool
	holdFor     time.Duration
	events      string
}

// noNewPrivs is what an ordinary user pays for having binds answered.
const noNewPrivs = "without root, programs that the server starts cannot gain rights, as sudo does (no_new_privs)"

const watchBindHelp = "tell each bind and listen of the command with its result (Linux)"

func (b *binds) register(fs *pflag.FlagSet) {
	fs.BoolVar(&b.watch, "watch-bind", false, watchBindHelp)
	fs.BoolVar(&b.hold, "hold", false, "let the command's bind wait while its port is taken, instead of refusing it (Linux)")
	fs.DurationVar(&b.holdFor, "hold-for", 30*time.Second, "with --hold, the longest wait")
	fs.StringVar(&b.events, "events", "", "write the binds to this file as lines of JSON")
}

func (b *binds) check() error { return positive("hold-for", b.holdFor) }

// starter returns what starts the gateway, nil for the usual way, and what to
// close afterwards. What does not work here is said and done without.
func (a *app) starter(ctx context.Context, sys *netstate.System, spec netstate.BindSpec, b *binds) (gatewaylaunch.Starter, func(), error) {
	if !b.watch && !b.hold && b.events == "" {
		return nil, func() {}, nil
	}
	support := bindnotify.Supported(ctx)
	if !support.Watch || b.hold && !support.Hold {
		a.note(fmt.Sprintf("the command's binds are left alone here: %v", support.Err))
		return nil, func() {}, nil
	}
	if support.NoNewPrivs {
		a.note(noNewPrivs)
	}
	var file io.WriteCloser
	done := func() {}
	if b.events != "" {
		f, err := os.OpenFile(b.events, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, err
		}
		file, done = f, func() { f.Close() }
	}
	config := bindnotify.Config{On: func(e bindnotify.Event) {
		// An error of a file or of standard error must not end the command.
		if file != nil {
			_ = report.Encode(file, report.NewCall(&e))
		}
		switch held := e.Kind == bindnotify.KindHeld || e.Waited > 0; {
		case !b.watch && !held:
		case a.json:
			_ = report.Encode(a.Err, report.NewCall(&e))
		default:
			_ = a.text(&prefixed{w: a.Err}).Call(&e)
		}
	}}
	if b.hold {
		kernel := reclaim.NewSystem(sys)
		config.Hold = bindnotify.Hold{For: b.holdFor, Ports: []uint16{spec.Port},
			Wake: func(ctx context.Context, port uint16) <-chan struct{} {
				waited := spec
				waited.Port = port
				return kernel.Wake(ctx, waited)
			}}
	}
	return &gatewaylaunch.Binds{Context: ctx, Config: config, Foreground: true}, done, nil
}
