package sockflags

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf/asm"
)

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

// layout has the offsets in this kernel's struct sock_common, and the function
// of the kernel that the iterator attaches to.
type layout struct {
	target           typeID
	ctxMeta, ctxSock int16 // in struct bpf_iter__tcp
	metaSeq          int16 // in struct bpf_iter_meta
	cookie           int16
	flags            int16 // the first byte that holds one of the bit fields
	span             int16 // how many bytes hold them all
	bits             bits
}

func layoutOf(kernel []byte) (*layout, error) {
	t, err := newTypeInfo(kernel)
	if err != nil {
		return nil, err
	}
	var l layout
	var ctx, meta, sock typeID
	err = t.find([]wanted{
		{kind: kindFunc, name: "bpf_iter_tcp", id: &l.target},
		{kind: kindStruct, name: "bpf_iter__tcp", id: &ctx},
		{kind: kindStruct, name: "bpf_iter_meta", id: &meta},
		{kind: kindStruct, name: "sock_common", id: &sock},
	})
	if err != nil {
		return nil, err
	}
	for _, m := range []struct {
		of   typeID
		name string
		into *int16
	}{{ctx, "meta", &l.ctxMeta}, {ctx, "sk_common", &l.ctxSock}, {meta, "seq", &l.metaSeq}, {sock, "skc_cookie", &l.cookie}} {
		p, err := t.member(m.of, m.name)
		if err != nil {
			return nil, err
		}
		*m.into = int16(p.offset / 8)
	}
	fields := []struct {
		name string
		into *field
		at   place
	}{{name: "skc_reuse", into: &l.bits.reuse}, {name: "skc_reuseport", into: &l.bits.reusePort}, {name: "skc_ipv6only", into: &l.bits.v6only}}
	low, high := ^uint32(0), uint32(0)
	for i := range fields {
		f := &fields[i]
		if f.at, err = t.member(sock, f.name); err != nil {
			return nil, err
		}
		if f.at.width == 0 {
			return nil, fmt.Errorf("%s is no bit field in this kernel, and this reader expects one", f.name)
		}
		low, high = min(low, f.at.offset), max(high, f.at.offset+f.at.width)
	}
	l.flags = int16(low / 8)
	l.span = int16((high+7)/8) - l.flags
	if l.span > 8 {
		return nil, fmt.Errorf("the flags of struct sock_common span %d bytes, and this reader expects at most 8", l.span)
	}
	for _, f := range fields {
		*f.into = field{shift: f.at.offset - uint32(l.flags)*8, width: f.at.width}
	}
	return &l, nil
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
	if littleEndian() {
		return i
	}
	return 7 - i
}

func littleEndian() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }
