package netstate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// countingReader returns an empty snapshot that carries its number in Caps.
// The first reading fails with err, if that is set.
type countingReader struct {
	n   int
	err error
}

func (c *countingReader) Read(context.Context) (*Snapshot, error) {
	c.n++
	if c.err != nil && c.n == 1 {
		return nil, c.err
	}
	return NewSnapshot(time.Now(), nil, Caps{EphemeralFrom: uint16(c.n)}), nil
}

func TestWatchKeepsOnlyTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		updates := Watch(ctx, &countingReader{}, time.Second, nil)
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		// Eleven readings were made, at once and each second, and nobody
		// took any: only the last may be there.
		if u := <-updates; u.Snapshot.Caps.EphemeralFrom != 11 {
			t.Errorf("got reading %d, want the 11th", u.Snapshot.Caps.EphemeralFrom)
		}
		select {
		case u := <-updates:
			t.Errorf("a second update was queued: %+v", u)
		default:
		}
		cancel()
		for range updates {
		}
	})
}

func TestWatchWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wake := make(chan struct{})
		start := time.Now()
		updates := Watch(ctx, &countingReader{}, time.Hour, wake)
		<-updates
		wake <- struct{}{}
		if u := <-updates; u.At.Sub(start) > time.Minute {
			t.Errorf("the update came after %v, not when it was woken", u.At.Sub(start))
		}
		cancel()
		for range updates {
		}
	})
}

func TestWatchReportsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		refused := errors.New("netlink was refused")
		updates := Watch(ctx, &countingReader{err: refused}, time.Second, nil)
		if u := <-updates; !errors.Is(u.Err, refused) || u.Snapshot != nil {
			t.Errorf("got %+v", u)
		}
		if u := <-updates; u.Err != nil || u.Snapshot == nil {
			t.Errorf("it did not recover: %+v", u)
		}
		cancel()
		for range updates {
		}
	})
}
