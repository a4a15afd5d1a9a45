package sockflags

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// openReader skips only if the kernel or the user lacks what the iterator needs.
func openReader(t *testing.T) *Reader {
	t.Helper()
	r, err := Open()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EINVAL) || errors.Is(err, os.ErrNotExist) {
		t.Skipf("needs CAP_BPF and CAP_PERFMON on a kernel with BTF: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// TestReadsWhatGetsockoptSays sets every combination on real listeners and
// compares with what the iterator reads.
func TestReadsWhatGetsockoptSays(t *testing.T) {
	r := openReader(t)
	want := map[uint64]Flags{}
	for bits := range 8 {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		for i, opt := range []struct{ level, name int }{
			{unix.SOL_SOCKET, unix.SO_REUSEADDR}, {unix.SOL_SOCKET, unix.SO_REUSEPORT}, {unix.IPPROTO_IPV6, unix.IPV6_V6ONLY},
		} {
			if err := unix.SetsockoptInt(fd, opt.level, opt.name, bits>>i&1); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Bind(fd, &unix.SockaddrInet6{}); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(fd, 1); err != nil {
			t.Fatal(err)
		}
		cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		if err != nil {
			t.Fatal(err)
		}
		want[cookie] = Flags{Cookie: cookie, ReuseAddr: bits&1 != 0, ReusePort: bits&2 != 0, V6Only: bits&4 != 0}
	}
	for range 2 { // the iterator can be opened again
		found := 0
		if err := r.Read(func(f Flags) {
			w, ok := want[f.Cookie]
			if !ok {
				return
			}
			found++
			if f != w {
				t.Errorf("read %+v, want %+v", f, w)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if found != len(want) {
			t.Errorf("found %d of %d sockets", found, len(want))
		}
	}
}

func TestField(t *testing.T) {
	for _, c := range []struct {
		f    field
		word uint64
		want bool
	}{{field{0, 4}, 0, false}, {field{0, 4}, 1, true}, {field{0, 4}, 0x10, false}, {field{4, 1}, 0x10, true}, {field{5, 1}, 0x10, false}} {
		if got := c.f.of(c.word); got != c.want {
			t.Errorf("%+v of %#x: %v", c.f, c.word, got)
		}
	}
}

// BenchmarkOpen is what the first verdict pays that needs the iterator.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		r, err := Open()
		if err != nil {
			b.Skipf("needs CAP_BPF and CAP_PERFMON on a kernel with BTF: %v", err)
		}
		r.Close()
	}
}
