package netstate

import (
	"context"
	"time"
)

// Update is one reading of Watch: a snapshot, or the error that prevented it.
type Update struct {
	At       time.Time
	Snapshot *Snapshot
	Err      error
}

// Reader is what Watch reads from; *System is one.
type Reader interface {
	Read(ctx context.Context) (*Snapshot, error)
}

// Watch reads at once, then every interval and whenever wake fires, until ctx
// ends, and closes the channel then. The channel holds only the newest
// update: a slow receiver misses old ones and is never behind. wake may be
// nil.
func Watch(ctx context.Context, r Reader, interval time.Duration, wake <-chan struct{}) <-chan Update {
	out := make(chan Update, 1)
	go func() {
		defer close(out)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			snap, err := r.Read(ctx)
			if ctx.Err() != nil {
				return
			}
			u := Update{At: time.Now(), Snapshot: snap, Err: err}
			select {
			case <-out: // drop the update that nobody took
			default:
			}
			out <- u // never blocks: this goroutine is the only sender
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			case <-wake:
			}
		}
	}()
	return out
}
