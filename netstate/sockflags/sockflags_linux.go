package sockflags

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Flags are the options of one socket. A socket with the cookie 0 has never
// been dumped by sock_diag and cannot be joined to anything.
type Flags struct {
	Cookie                       uint64
	ReuseAddr, ReusePort, V6Only bool
}

// Reader holds the loaded program. One goroutine at a time.
type Reader struct {
	prog, link int // descriptors
	bits       bits
}

// kernelTypes is where the kernel shows its own types.
const kernelTypes = "/sys/kernel/btf/vmlinux"

// Open loads and attaches the iterator. The error unwraps to that of the
// system: EPERM without the right, ENOENT on a kernel without BTF, EINVAL on
// one that knows no such iterator.
func Open() (*Reader, error) {
	l, err := kernelLayout()
	if err != nil {
		return nil, err
	}
	prog, err := load(l.program(), l.target)
	if err != nil {
		return nil, fmt.Errorf("load the iterator: %w", err)
	}
	link, err := attach(prog)
	if err != nil {
		unix.Close(prog)
		return nil, fmt.Errorf("attach the iterator: %w", err)
	}
	return &Reader{prog: prog, link: link, bits: l.bits}, nil
}

// kernelLayout reads the types of the running kernel.
func kernelLayout() (*layout, error) {
	f, err := os.Open(kernelTypes)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > 0 && st.Size() < 1<<30 {
		// Since Linux 6.16 the types can be looked at where they are, which
		// saves the copying of five megabytes.
		if b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE); err == nil {
			defer func() { _ = unix.Munmap(b) }()
			return layoutOf(b)
		}
	}
	b, err := os.ReadFile(kernelTypes)
	if err != nil {
		return nil, err
	}
	return layoutOf(b)
}

// Close unloads the program.
func (r *Reader) Close() error {
	return errors.Join(os.NewSyscallError("close", unix.Close(r.link)), os.NewSyscallError("close", unix.Close(r.prog)))
}

// Read visits every socket in the caller's network namespace.
func (r *Reader) Read(visit func(Flags)) error {
	f, err := open(r.link)
	if err != nil {
		return fmt.Errorf("open the iterator: %w", err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 32<<10)
	var rec [recordSize]byte
	for {
		_, err := io.ReadFull(in, rec[:])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the iterator: %w", err)
		}
		word := binary.NativeEndian.Uint64(rec[8:])
		visit(Flags{
			Cookie:    binary.NativeEndian.Uint64(rec[:]),
			ReuseAddr: r.bits.reuse.of(word),
			ReusePort: r.bits.reusePort.of(word),
			V6Only:    r.bits.v6only.of(word),
		})
	}
}
