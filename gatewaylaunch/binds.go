package gatewaylaunch

import (
	"context"
	"os/exec"

	"berth/gatewaylaunch/bindnotify"
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
}

// Start starts the command.
func (b *Binds) Start(cmd *exec.Cmd) error {
	tree, err := bindnotify.Start(b.Context, cmd, b.Config)
	if err != nil {
		return err
	}
	if b.Foreground {
		go abandonOnSignal(b.Context, tree)
	}
	return nil
}
