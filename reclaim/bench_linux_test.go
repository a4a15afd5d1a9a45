package reclaim_test

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"berth/netstate"
	"berth/netstate/lab"
	"berth/reclaim"
)

var holderMB = flag.Int("holder.mb", 256, "megabytes of memory that the holders of the benchmarks have")

// BenchmarkFree compares the fast path with a plain SIGKILL, by the time until
// a bind with SO_REUSEADDR succeeds. One round is one holder for each;
// -benchtime 300x makes 300.
func BenchmarkFree(b *testing.B) {
	lab.NeedNamespace(b)
	k := machine(b)
	self := reclaim.CurrentSelf(b.Context())
	policy := reclaim.DefaultPolicy()
	policy.Fast = true
	var fast, plain []float64
	for b.Loop() {
		b.StopTimer()
		p, spec := holder(b, "mb="+strconv.Itoa(*holderMB))
		held := reclaim.Hold(k, reclaim.NewPlan(why(b, k, spec), policy, self)) // as shown to a person
		var freed time.Time
		b.StartTimer()
		start := time.Now()
		err := held.Run(b.Context(), func(e reclaim.Event) {
			if e.Kind == reclaim.EventBindable {
				freed = e.At
			}
			if e.Kind == reclaim.EventShutdown && e.Err != nil {
				b.Skipf("the fast path is not open here: %v", e.Err)
			}
		})
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		held.Close()
		fast = append(fast, freed.Sub(start).Seconds())
		p.end()

		p, spec = holder(b, "mb="+strconv.Itoa(*holderMB))
		start = time.Now()
		if err := p.Process.Signal(syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		for !netstate.TryBind(spec).Bindable() {
		}
		plain = append(plain, time.Since(start).Seconds())
		p.end()
		b.StartTimer()
	}
	slices.Sort(fast)
	slices.Sort(plain)
	b.ReportMetric(median(plain)/median(fast), "×faster")
	b.ReportMetric(median(fast)*1e6, "µs-fast")
	b.ReportMetric(median(plain)*1e6, "µs-SIGKILL")
	b.ReportMetric(float64(len(fast)), "rounds")
}

// BenchmarkNotice measures how long after the port has become bindable the
// ordinary path says so. Another process that does nothing but bind knows.
func BenchmarkNotice(b *testing.B) {
	lab.NeedNamespace(b)
	k := machine(b)
	self := reclaim.CurrentSelf(b.Context())
	var late []float64
	for b.Loop() {
		b.StopTimer()
		p, spec := holder(b, "")
		plan := reclaim.NewPlan(why(b, k, spec), reclaim.DefaultPolicy(), self)
		o := play(b, fmt.Sprintf("observe %s", spec.AddrPort()))
		if got := o.line(b); got != "refused" {
			b.Fatal(got)
		}
		b.StartTimer()
		var noticed int64
		err := reclaim.Run(b.Context(), k, plan, func(e reclaim.Event) {
			if e.Kind == reclaim.EventBindable {
				noticed = monotonic()
			}
		})
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		bindable := int64(o.number(b))
		late = append(late, max(0, float64(noticed-bindable)/1e3))
		o.end()
		p.end()
		b.StartTimer()
	}
	slices.Sort(late)
	b.ReportMetric(median(late), "µs-median")
	b.ReportMetric(late[(len(late)*99+99)/100-1], "µs-p99")
	b.ReportMetric(float64(len(late)), "rounds")
}

func median(sorted []float64) float64 { return sorted[len(sorted)/2] }
