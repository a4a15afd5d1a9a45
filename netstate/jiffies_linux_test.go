package netstate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestJiffiesOf: the counter is found again from what the kernel makes of it,
// whatever HZ and however long the machine has run.
func TestJiffiesOf(t *testing.T) {
	// kernel is jiffies_to_msecs of the counter's lower half, as the C of
	// kernel/time/time.c has it for a 64-bit kernel: a product where 1000 is a
	// multiple of HZ, else a division that rounds up.
	kernel := func(hz int, jiffies uint64) uint32 {
		j := uint64(uint32(jiffies))
		switch hz {
		case 300:
			return uint32((j*10 + 2) / 3)
		default:
			return uint32(uint64(1000/hz) * j)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, hz := range []int{100, 250, 300, 1000} {
		for range 100_000 {
			up := time.Duration(r.Int64N(int64(10 * 365 * 24 * time.Hour)))
			want := uint64(1<<32) - uint64(300*hz) + uint64(up/time.Millisecond)*uint64(hz)/1000
			jiffies := want - uint64(r.IntN(30*hz))
			if hz == 300 && jiffies>>32 != want>>32 {
				continue // tested below
			}
			if got, ok := jiffiesOf(kernel(hz, jiffies), hz, want); !ok || got != jiffies {
				t.Fatalf("HZ=%d, up for %v: %d, %v, want %d", hz, up, got, ok, jiffies)
			}
		}
	}
	// Where 1000 is no multiple of HZ, milliseconds jump when the counter's
	// lower half overflows. For a moment after that, what is found must be so
	// far off that nobody takes it for the counter.
	want := uint64(1 << 32)
	if got, ok := jiffiesOf(kernel(300, want-1), 300, want); ok && max(got, want)-min(got, want) < 3600*300 {
		t.Errorf("HZ=300, around the overflow: %d", got)
	}
	// No counter of 250 Hz has this many milliseconds.
	if got, ok := jiffiesOf(4_000_001, 250, 1_000_000); ok {
		t.Errorf("4000001 ms at HZ=250: %d", got)
	}
}

// TestJiffiesAgreeWithTimerList compares what any user may read with what the
// kernel tells root.
func TestJiffiesAgreeWithTimerList(t *testing.T) {
	hz := coarseHZ()
	if hz == 0 {
		t.Fatal("no HZ")
	}
	socket := openJiffies(hz)
	if socket == nil {
		t.Fatal("the counter cannot be read")
	}
	defer socket.close()
	if socket.fd < 0 {
		t.Fatal("the counter is not read from a socket")
	}
	list := newJiffyClock(hz, func(uint64) (uint64, bool) { return timerListJiffies() })
	if _, err := os.ReadFile("/proc/timer_list"); errors.Is(err, fs.ErrPermission) {
		if _, _, ok := list.read(); ok {
			t.Error("a counter was made up")
		}
		t.Skip("needs root, to read /proc/timer_list; the counter itself was read")
	}
	for range 100 {
		socket.read()
		if _, _, ok := list.read(); !ok {
			t.Fatal("/proc/timer_list was not understood")
		}
	}
	if socket.behind != list.behind {
		t.Errorf("the socket's counter is %d ticks behind the clock, timer_list's %d", socket.behind, list.behind)
	}
	t.Logf("HZ %d, %d ticks behind the monotonic clock, which is shifted by %v", hz, socket.behind, timeNamespaceShift())
}

// TestJiffiesInATimeNamespace runs the tests of the counter in a process whose
// monotonic clock is shifted, and not by a multiple of the tick.
func TestJiffiesInATimeNamespace(t *testing.T) {
	type result struct {
		out []byte
		err error
	}
	c := make(chan result)
	var shifted func()
	shifted = func() {
		// The thread's children are in the namespace, and it ends with this
		// goroutine, which keeps it locked.
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The first thread would not end, and what its children get is
			// what /proc says of the whole process. While this goroutine
			// holds it, another has another thread.
			defer runtime.UnlockOSThread()
			other := make(chan struct{})
			go func() { defer close(other); shifted() }()
			<-other
			return
		}
		var r result
		if r.err = unix.Unshare(unix.CLONE_NEWTIME); r.err == nil {
			offsets := fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid())
			r.err = os.WriteFile(offsets, []byte("monotonic 12345 1234567"), 0)
		}
		if r.err != nil {
			r.err = fmt.Errorf("%w: %w", errors.ErrUnsupported, r.err)
		} else {
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.run", "^TestJiffies(AgreeWithTimerList|StepAtTheTick)$")
			r.out, r.err = cmd.CombinedOutput()
		}
		c <- r
	}
	go shifted()
	r := <-c
	if errors.Is(r.err, errors.ErrUnsupported) {
		t.Skipf("needs a time namespace (CAP_SYS_ADMIN and CAP_SYS_TIME, Linux 6.2): %v", r.err)
	}
	if r.err != nil || !bytes.Contains(r.out, []byte("shifted by 3h25m45.001234567s")) || bytes.Contains(r.out, []byte("SKIP")) {
		t.Errorf("%v\n%s", r.err, r.out)
	}
	t.Logf("%s", r.out)
}

// TestJiffiesStepAtTheTick holds the counter against the moment at which it is
// said to step: it must not be ahead of it, and soon after it is there.
func TestJiffiesStepAtTheTick(t *testing.T) {
	hz := coarseHZ()
	c := openJiffies(hz)
	if c == nil {
		t.Fatal("the counter cannot be read")
	}
	defer c.close()
	tick := time.Second / time.Duration(hz)
	soonest := tick
	for range 50 {
		// Watch one step from a little before it: of 50, most are not
		// disturbed by other programs.
		jiffies, edge, _ := c.read()
		timer := time.NewTimer(time.Until(edge.Add(tick - 100*time.Microsecond)))
		<-timer.C
		for {
			value, ok := c.counter(jiffies)
			after := time.Now()
			if !ok {
				t.Fatal("the counter became unreadable")
			}
			predicted := edge.Add(time.Duration(value-jiffies) * tick)
			if early := predicted.Sub(after); early > 20*time.Microsecond {
				t.Fatalf("stepped %v before the predicted edge", early)
			}
			if value > jiffies {
				soonest = min(soonest, after.Sub(predicted))
				break
			}
			if time.Since(edge) > time.Second {
				t.Fatal("the counter stands still")
			}
		}
	}
	t.Logf("first seen %v after the predicted edge, at the soonest", soonest)
	if soonest > 500*time.Microsecond && ticksAligned() {
		t.Errorf("never seen sooner than %v after the predicted edge", soonest)
	}
}

// ticksAligned: ticks begin at multiples of their length. Before Linux 6.4
// they need not, and everything happens up to a tick later than is said.
func ticksAligned() bool { return kernelAtLeast(6, 4) }

// TestJiffyClock: what a reading can get wrong is mended by the next, and what
// is not the counter is refused.
func TestJiffyClock(t *testing.T) {
	const hz, tick = 250, 4 * time.Millisecond
	var c *jiffyClock
	behind, ok := int64(0), true
	c = newJiffyClock(hz, func(uint64) (uint64, bool) { return uint64(int64(c.now()/tick) - behind), ok })
	true64 := -(int64(1<<32) - 300*hz) + 57 // a lag of 57 ticks at boot
	expect := func(what string, want int64) {
		t.Helper()
		if _, _, known := c.read(); !known || c.behind != want {
			t.Errorf("%s: %d ticks behind, known %v, want %d", what, c.behind, known, want)
		}
	}
	ok = false
	if _, _, known := c.read(); known {
		t.Error("known without a reading")
	}
	ok, behind = true, true64+hz*60
	if _, _, known := c.read(); known {
		t.Error("a minute off, and believed")
	}
	behind = true64 + 3
	expect("three ticks late", true64+3)
	behind = true64
	expect("in time", true64)
	behind = true64 + 2
	expect("late again", true64)
	ok = false
	expect("not readable once", true64)
	ok, behind = true, true64+100
	expect("ticks were lost", true64+100)

	now, jiffies, edge := time.Now(), uint64(0), time.Time{}
	jiffies, edge, _ = c.read()
	if since := now.Sub(edge); since > tick || since < -tick {
		t.Errorf("the last step was %v ago", since)
	}
	if got := int64(c.now()/tick) - int64(jiffies); got != c.behind && got != c.behind+1 {
		t.Errorf("%d ticks behind, want %d", got, c.behind)
	}
}

func TestParseTimerList(t *testing.T) {
	j, ok := parseTimerList([]byte("Timer List Version: v0.10\nnow at 5130361460150 nsecs\n\ncpu: 0\n  .last_jiffies   : 7\njiffies: 4296174825\n\ncpu: 1\njiffies: 4296174826\n"))
	if !ok || j != 4296174825 {
		t.Errorf("got %d, %v", j, ok)
	}
	for _, bad := range []string{"", "jiffies: x\n", "  .last_jiffies   : 7\n"} {
		if _, ok := parseTimerList([]byte(bad)); ok {
			t.Errorf("%q was understood", bad)
		}
	}
}

func TestParseTimeOffsets(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"monotonic           0         0\nboottime            0         0\n": 0,
		"monotonic      172800         5\nboottime      604800         0\n":  48*time.Hour + 5,
		"monotonic          -5 999000000\nboottime            0         0\n": -5*time.Second + 999*time.Millisecond,
		"": 0, "monotonic x 0\n": 0,
	} {
		if got := parseTimeOffsets([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func BenchmarkJiffies(b *testing.B) {
	c := openJiffies(coarseHZ())
	if c == nil {
		b.Skip("the counter cannot be read")
	}
	defer c.close()
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			c.read()
		}
	})
	b.Run("socket", func(b *testing.B) {
		for b.Loop() {
			_, _ = unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		}
	})
	b.Run("timer_list", func(b *testing.B) {
		if _, ok := timerListJiffies(); !ok {
			b.Skip("needs root, to read /proc/timer_list")
		}
		for b.Loop() {
			timerListJiffies()
		}
	})
}
