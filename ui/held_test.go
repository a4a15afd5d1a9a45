package ui

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// slowPlanner takes a second for a plan and does not hear that it is not wanted
// any more.
type slowPlanner struct{ *script }

func (s slowPlanner) Plan(ctx context.Context, req PlanRequest) (Held, error) {
	time.Sleep(time.Second) // of the bubble's clock
	return s.script.Plan(ctx, req)
}

// TestNothingIsHeldForNothing: the targets of a plan are held while it is shown
// or carried out, and let go of however that ends.
func TestNothingIsHeldForNothing(t *testing.T) {
	const wait = "wait"
	for name, c := range map[string]struct {
		slow bool
		keys []string
		held int // at the end of the keys
	}{
		"is shown":                  {false, []string{"R", wait}, 1},
		"is cancelled":              {false, []string{"R", wait, "esc", wait}, 0},
		"is answered with no":       {false, []string{"R", wait, "n", wait}, 0},
		"is carried out":            {false, []string{"R", wait, "y", wait, wait, wait}, 0},
		"is broken off":             {false, []string{"R", wait, "y", "esc", wait}, 0},
		"is asked for twice":        {false, []string{"R", wait, "esc", wait, "r", wait}, 1},
		"is cancelled while made":   {true, []string{"R", "esc", wait, wait, wait}, 0},
		"is left by quitting":       {false, []string{"R", wait, "ctrl+c"}, -1},
		"is left while it is made":  {true, []string{"R", "ctrl+c"}, -1},
		"is left while carried out": {false, []string{"R", wait, "y", "ctrl+c", "ctrl+c"}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				s := machineAt(time.Now())
				s.sockets = free().sockets[:1] // the listener alone
				s.info.Demo = true             // it ends with the program
				var engine Engine = live(ctx, s)
				if c.slow {
					engine = slowPlanner{s}
				}
				p := runProgramOn(ctx, engine)
				time.Sleep(time.Second)
				for _, key := range c.keys {
					if key == wait {
						time.Sleep(2 * time.Second)
						continue
					}
					p.keys(key)
					synctest.Wait()
				}
				held := func() int {
					s.mu.Lock()
					defer s.mu.Unlock()
					return s.holds
				}
				if got := held(); c.held >= 0 && got != c.held {
					t.Errorf("%d plans are held, want %d", got, c.held)
				}
				if c.held >= 0 {
					p.keys("ctrl+c")
					synctest.Wait()
					p.keys("ctrl+c")
				}
				if err := <-p.err; err != nil {
					t.Fatal(err)
				}
				p.m.Close()
				if got := held(); got != 0 {
					t.Errorf("%d plans are held after the end", got)
				}
				cancel()
				time.Sleep(2 * time.Minute) // the program's last timers, and a gateway that goes on
			})
		})
	}
}
