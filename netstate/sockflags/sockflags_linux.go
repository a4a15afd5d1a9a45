package sockflags

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// Flags are the options of one socket. A socket with the cookie 0 has never
// been dumped by sock_diag and cannot be joined to anything.
type Flags struct {
	Cookie                       uint64
	ReuseAddr, ReusePort, V6Only bool
}

// Reader holds the loaded program. One goroutine at a time.
type Reader struct {
	prog *ebpf.Program
	iter *link.Iter
	bits bits
}

// recordSize is what the program writes for each socket: the cookie, and the
// bytes that hold the three bit fields.
const recordSize = 16

// bits are the places of the three bit fields within the second half of a
// record, counted from its lowest bit.
type bits struct {
	reuse, reusePort, v6only field
}

type field struct{ shift, width uint32 }

func (f field) of(word uint64) bool { return word>>f.shift&(1<<f.width-1) != 0 }

// Open loads and attaches the iterator. The error unwraps to
// ebpf.ErrNotSupported or to EPERM.
func Open() (*Reader, error) {
	// Decoding the kernel's types is most of the cost of this function, and
	// loading the program needs them too: with a common cache it is done once.
	cache := btf.NewCache()
	spec, err := cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's type information: %w", err)
	}
	layout, err := layoutOf(spec)
	if err != nil {
		return nil, err
	}
	const name = "berth_flags"
	loaded, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{name: {
		Name:         name,
		Type:         ebpf.Tracing,
		AttachType:   ebpf.AttachTraceIter,
		AttachTo:     "tcp",
		License:      "GPL",
		Instructions: layout.program(),
	}}}, ebpf.CollectionOptions{Cache: cache})
	if err != nil {
		return nil, fmt.Errorf("load the iterator: %w", err)
	}
	prog := loaded.DetachProgram(name)
	loaded.Close()
	iter, err := link.AttachIter(link.IterOptions{Program: prog})
	if err != nil {
		prog.Close()
		return nil, fmt.Errorf("attach the iterator: %w", err)
	}
	return &Reader{prog: prog, iter: iter, bits: layout.bits}, nil
}

// Close unloads the program.
func (r *Reader) Close() error { return errors.Join(r.iter.Close(), r.prog.Close()) }

// Read visits every socket in the caller's network namespace.
func (r *Reader) Read(visit func(Flags)) error {
	f, err := r.iter.Open()
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

// layout has the offsets in this kernel's struct sock_common.
type layout struct {
	ctxMeta, ctxSock int16 // in struct bpf_iter__tcp
	metaSeq          int16 // in struct bpf_iter_meta
	cookie           int16
	flags            int16 // the first byte that holds one of the bit fields
	span             int16 // how many bytes hold them all
	bits             bits
}

func layoutOf(spec *btf.Spec) (*layout, error) {
	var l layout
	var ctx, meta, sock *btf.Struct
	for name, into := range map[string]**btf.Struct{"bpf_iter__tcp": &ctx, "bpf_iter_meta": &meta, "sock_common": &sock} {
		if err := spec.TypeByName(name, into); err != nil {
			return nil, fmt.Errorf("find struct %s in the kernel's type information: %w", name, err)
		}
	}
	var first error
	at := func(s *btf.Struct, name string) btf.Member {
		m, ok := member(s.Members, name, 0)
		if !ok && first == nil {
			first = fmt.Errorf("struct %s of this kernel has no member %s", s.Name, name)
		}
		return m
	}
	l.ctxMeta = int16(at(ctx, "meta").Offset.Bytes())
	l.ctxSock = int16(at(ctx, "sk_common").Offset.Bytes())
	l.metaSeq = int16(at(meta, "seq").Offset.Bytes())
	l.cookie = int16(at(sock, "skc_cookie").Offset.Bytes())
	fields := []struct {
		m    btf.Member
		into *field
	}{
		{at(sock, "skc_reuse"), &l.bits.reuse},
		{at(sock, "skc_reuseport"), &l.bits.reusePort},
		{at(sock, "skc_ipv6only"), &l.bits.v6only},
	}
	if first != nil {
		return nil, first
	}
	low, high := uint32(fields[0].m.Offset), uint32(0)
	for _, f := range fields {
		low = min(low, uint32(f.m.Offset))
		high = max(high, uint32(f.m.Offset+f.m.BitfieldSize))
	}
	l.flags = int16(low / 8)
	l.span = int16((high+7)/8) - l.flags
	if l.span > 8 {
		return nil, fmt.Errorf("the flags of struct sock_common span %d bytes, and this reader expects at most 8", l.span)
	}
	for _, f := range fields {
		*f.into = field{shift: uint32(f.m.Offset) - uint32(l.flags)*8, width: uint32(f.m.BitfieldSize)}
	}
	return &l, nil
}

// member finds a member by name, also inside anonymous structs and unions,
// where the kernel keeps most of sock_common.
func member(ms []btf.Member, name string, base btf.Bits) (btf.Member, bool) {
	for _, m := range ms {
		if m.Name == name {
			m.Offset += base
			return m, true
		}
		if m.Name != "" {
			continue
		}
		var inner []btf.Member
		switch t := m.Type.(type) {
		case *btf.Struct:
			inner = t.Members
		case *btf.Union:
			inner = t.Members
		}
		if found, ok := member(inner, name, base+m.Offset); ok {
			return found, true
		}
	}
	return btf.Member{}, false
}

// program writes one record for each socket into the iterator's output.
func (l *layout) program() asm.Instructions {
	const cookieAt, wordAt = -16, -8 // on the stack
	is := asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, l.ctxSock, asm.DWord),
		// The last call comes with no socket, to end the output.
		asm.JEq.Imm(asm.R6, 0, "end"),
		asm.LoadMem(asm.R1, asm.R1, l.ctxMeta, asm.DWord),
		asm.LoadMem(asm.R1, asm.R1, l.metaSeq, asm.DWord),
		asm.LoadMem(asm.R2, asm.R6, l.cookie, asm.DWord),
		asm.StoreMem(asm.RFP, cookieAt, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R2, 0),
		asm.StoreMem(asm.RFP, wordAt, asm.R2, asm.DWord),
	}
	for i := range l.span {
		is = append(is,
			asm.LoadMem(asm.R2, asm.R6, l.flags+i, asm.Byte),
			asm.StoreMem(asm.RFP, wordAt+l.byteAt(i), asm.R2, asm.Byte),
		)
	}
	return append(is,
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, cookieAt),
		asm.Mov.Imm(asm.R3, recordSize),
		asm.FnSeqWrite.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
		asm.Return(),
	)
}

// byteAt keeps the i-th byte of the bit fields at bits 8i of the word.
func (l *layout) byteAt(i int16) int16 {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return i
	}
	return 7 - i
}
