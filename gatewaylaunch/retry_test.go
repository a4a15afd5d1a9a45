//go:build unix

package gatewaylaunch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"berth/netstate"
)

// The same error that package net returns for a refused bind.
func refusal(errno syscall.Errno) error {
	return &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", errno)}
}

// A server written in Go takes its port the moment that its predecessor lets go
// of it, and says meanwhile who holds it.
func ExampleRetry_Listen() {
	predecessor, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	retry := DefaultRetry()
	retry.Notify = func(attempt int, err error) {
		fmt.Println("attempt", attempt, "was refused:", errors.Is(err, syscall.EADDRINUSE))
		// err names the holder: "127.0.0.1:… is still in use after 1 attempt in
		// 0.0 s: held by gatewaylaunch.test (pid 4211, alice) …".
		predecessor.Close()
	}
	begin := time.Now()
	ln, err := retry.Listen(context.Background(), "tcp", predecessor.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	fmt.Println("serving:", ln.Addr().String() == predecessor.Addr().String())
	fmt.Println("within the interval:", time.Since(begin) < retry.Interval+time.Second)
	// Output:
	// attempt 1 was refused: true
	// serving: true
	// within the interval: true
}

func TestListenRetriesAtTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := &net.TCPListener{}
		start := time.Now()
		var at []time.Duration
		var told []int
		r := DefaultRetry()
		r.Notify = func(attempt int, _ error) { told = append(told, attempt) }
		r.listen = func(context.Context, string, string) (net.Listener, error) {
			at = append(at, time.Since(start))
			if len(at) < 4 {
				return nil, refusal(syscall.EADDRINUSE)
			}
			return want, nil
		}
		ln, err := r.Listen(t.Context(), "tcp", "127.0.0.1:1")
		if ln != net.Listener(want) || err != nil {
			t.Fatalf("Listen = %v, %v", ln, err)
		}
		if got := fmt.Sprint(at, told); got != "[0s 500ms 1s 1.5s] [1 2 3]" {
			t.Errorf("attempts at %v, notified of %v", at, told)
		}
	})
}

func TestListenGivesUpAfterTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, tries, told := time.Now(), 0, 0
		r := DefaultRetry()
		r.Notify = func(int, error) { told++ }
		r.listen = func(context.Context, string, string) (net.Listener, error) {
			tries++
			return nil, refusal(syscall.EADDRINUSE)
		}
		_, err := r.Listen(t.Context(), "tcp", "127.0.0.1:1")
		var listen *ListenError
		if !errors.As(err, &listen) || !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("error %v, want a ListenError that wraps EADDRINUSE", err)
		}
		if tries != 5 || told != 4 || listen.Attempts != 5 || listen.Elapsed != 2*time.Second || time.Since(start) != 2*time.Second {
			t.Errorf("tries %d, told %d, %+v after %v", tries, told, listen, time.Since(start))
		}
		if want := "127.0.0.1:1 is still in use after 5 attempts in 2.0 s: listen tcp: bind: address already in use"; err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	})
}

// scriptedSystem lets Listen see a scripted machine.
func scriptedSystem(k Kernel) func() (Kernel, func(), error) {
	return func() (Kernel, func(), error) { return k, func() {}, nil }
}

// The kernel's report that a socket has ended brings the next try at once. One
// that was for nothing costs no attempt.
func TestListenIsWokenByTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := &net.TCPListener{}
		start, free, tries := time.Now(), time.Now().Add(1234*time.Millisecond), 0
		wake := make(chan struct{}, 1)
		go func() {
			time.Sleep(70 * time.Millisecond)
			wake <- struct{}{} // for nothing
			time.Sleep(time.Until(free))
			wake <- struct{}{}
		}()
		holder := netstate.Holder{ID: netstate.ProcessID{PID: 4211}, Name: "node", User: "alice"}
		var told []string
		r := DefaultRetry()
		r.Notify = func(_ int, err error) { told = append(told, err.Error()) }
		r.system = scriptedSystem(&scripted{wake: wake, why: func(s netstate.BindSpec) netstate.Verdict { return heldVerdict(s, holder) }})
		r.listen = func(context.Context, string, string) (net.Listener, error) {
			tries++
			if time.Now().Before(free) {
				return nil, refusal(syscall.EADDRINUSE)
			}
			return want, nil
		}
		ln, err := r.Listen(t.Context(), "tcp", "127.0.0.1:8080")
		if ln != net.Listener(want) || err != nil || time.Since(start) != 1234*time.Millisecond {
			t.Errorf("Listen = %v, %v after %v", ln, err, time.Since(start))
		}
		if tries != 5 || len(told) != 3 { // at 0, 70, 500, 1000 and 1234 ms
			t.Errorf("%d tries, told %q", tries, told)
		}
		if want := "127.0.0.1:8080 is still in use after 1 attempt in 0.0 s: held by node (pid 4211, alice): listen tcp: bind: address already in use"; len(told) > 0 && told[0] != want {
			t.Errorf("told %q, want %q", told[0], want)
		}
	})
}

func TestListenForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, tries := time.Now(), 0
		r := Retry{Retries: 1, Interval: 400 * time.Millisecond, For: time.Second}
		r.listen = func(context.Context, string, string) (net.Listener, error) {
			tries++
			return nil, refusal(syscall.EADDRINUSE)
		}
		_, err := r.Listen(t.Context(), "tcp", "127.0.0.1:1")
		var listen *ListenError
		if !errors.As(err, &listen) || tries != 4 || time.Since(start) != time.Second { // at 0, 400, 800 and 1000 ms
			t.Errorf("error %v after %d tries and %v", err, tries, time.Since(start))
		}
	})
}

func TestListenReturnsOtherErrorsAtOnce(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EADDRNOTAVAIL, syscall.EINVAL, syscall.EMFILE} {
		synctest.Test(t, func(t *testing.T) {
			start, tries := time.Now(), 0
			r := DefaultRetry()
			cause := refusal(errno)
			r.listen = func(context.Context, string, string) (net.Listener, error) {
				tries++
				return nil, cause
			}
			if _, err := r.Listen(t.Context(), "tcp", "127.0.0.1:1"); err != cause || tries != 1 || time.Since(start) != 0 {
				t.Errorf("%v: error %v after %d tries and %v", errno, err, tries, time.Since(start))
			}
		})
	}
}

func TestListenEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		start, tries := time.Now(), 0
		r := DefaultRetry()
		r.listen = func(context.Context, string, string) (net.Listener, error) {
			tries++
			return nil, refusal(syscall.EADDRINUSE)
		}
		_, err := r.Listen(ctx, "tcp", "127.0.0.1:1")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("error %v, want the context's and the last refusal", err)
		}
		if tries != 2 || time.Since(start) != 700*time.Millisecond {
			t.Errorf("%d tries in %v", tries, time.Since(start))
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ln, err := DefaultRetry().Listen(ctx, "tcp", "127.0.0.1:0"); !errors.Is(err, context.Canceled) {
		t.Errorf("Listen on an ended context = %v, %v", ln, err)
	}
}

// The rest runs on real sockets.

func TestListenUntilSuccess(t *testing.T) {
	holder := listenLoopback(t)
	r := Retry{Retries: 100, Interval: 10 * time.Millisecond, Notify: func(attempt int, _ error) {
		if attempt == 3 {
			holder.Close()
		}
	}}
	ln, err := r.Listen(t.Context(), "tcp", holder.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if ln.Addr().String() != holder.Addr().String() {
		t.Errorf("listens on %v, want %v", ln.Addr(), holder.Addr())
	}
}

func TestListenTimesOut(t *testing.T) {
	holder := listenLoopback(t)
	r := Retry{Retries: 2, Interval: 20 * time.Millisecond}
	_, err := r.Listen(t.Context(), "tcp", holder.Addr().String())
	var listen *ListenError
	if !errors.As(err, &listen) || !addressInUse(err) || listen.Attempts != 3 || listen.Elapsed < 40*time.Millisecond {
		t.Errorf("error %v (%+v)", err, listen)
	}
	want := fmt.Sprintf("(pid %d, ", os.Getpid())
	if !strings.HasPrefix(err.Error(), holder.Addr().String()+" is still in use after 3 attempts in ") || !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not name %s", err, want)
	}
	if listen.Hint() == "" {
		t.Error("no hint")
	}
}
