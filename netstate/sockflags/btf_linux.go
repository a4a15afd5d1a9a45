package sockflags

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// typeInfo is the kernel's BTF (Documentation/bpf/btf.rst) as a sequence that
// is searched and never decoded as a whole: it has 150,000 types, and to make
// values of them costs more than all that is asked of this package.
type typeInfo struct {
	types, names []byte
	// marks are the offsets of every markEvery-th of the types before the
	// number next, which begins at at: from them a type is found by its number.
	marks []uint32
	next  typeID
	at    int
}

// typeID is the number of a type. 0 is void, and the first one has number 1.
type typeID uint32

const (
	markEvery  = 256
	headerSize = 24
	typeSize   = 12 // struct btf_type, without what follows it
	memberSize = 12 // struct btf_member
)

// The kinds of BTF that are looked for.
const (
	kindStruct = 4
	kindUnion  = 5
	kindFunc   = 12
)

// sizes says how many bytes a type of each kind takes: a fixed number, which is
// 0 for a kind that is not known, and more for each of its members.
var sizes = [32]struct{ fixed, each uint8 }{
	1:          {fixed: typeSize + 4},  // INT
	2:          {fixed: typeSize},      // PTR
	3:          {fixed: typeSize + 12}, // ARRAY
	kindStruct: {fixed: typeSize, each: memberSize},
	kindUnion:  {fixed: typeSize, each: memberSize},
	6:          {fixed: typeSize, each: 8}, // ENUM
	7:          {fixed: typeSize},          // FWD
	8:          {fixed: typeSize},          // TYPEDEF
	9:          {fixed: typeSize},          // VOLATILE
	10:         {fixed: typeSize},          // CONST
	11:         {fixed: typeSize},          // RESTRICT
	kindFunc:   {fixed: typeSize},
	13:         {fixed: typeSize, each: 8},  // FUNC_PROTO
	14:         {fixed: typeSize + 4},       // VAR
	15:         {fixed: typeSize, each: 12}, // DATASEC
	16:         {fixed: typeSize},           // FLOAT
	17:         {fixed: typeSize + 4},       // DECL_TAG
	18:         {fixed: typeSize},           // TYPE_TAG
	19:         {fixed: typeSize, each: 12}, // ENUM64
}

var errBTF = errors.New("malformed BTF")

// newTypeInfo divides the content of /sys/kernel/btf/vmlinux, which it refers
// to from then on.
func newTypeInfo(b []byte) (*typeInfo, error) {
	const magic = 0xeb9f
	if len(b) < headerSize || binary.NativeEndian.Uint16(b) != magic || b[2] != 1 {
		return nil, fmt.Errorf("%w: no header of version 1", errBTF)
	}
	word := func(at int) uint64 { return uint64(binary.NativeEndian.Uint32(b[at:])) }
	body := word(4)
	section := func(at int) []byte {
		from, size := body+word(at), word(at+4)
		if from > uint64(len(b)) || size > uint64(len(b))-from {
			return nil
		}
		return b[from : from+size]
	}
	t := &typeInfo{types: section(8), names: section(16), next: 1}
	if t.types == nil || t.names == nil {
		return nil, fmt.Errorf("%w: a section ends after the file", errBTF)
	}
	return t, nil
}

// wanted is a type that is looked for by its name.
type wanted struct {
	kind uint8
	name string
	id   *typeID
}

// find fills in the number of each wanted type. It is all that takes time here,
// so it looks at no name but those of the right kinds, and no further than it
// has to.
func (t *typeInfo) find(all []wanted) error {
	for left := len(all); left > 0; {
		id, at := t.next, t.at
		kind, err := t.step()
		if err != nil {
			return err
		}
		if kind != kindStruct && kind != kindFunc {
			continue
		}
		name := binary.NativeEndian.Uint32(t.types[at:])
		for i := range all {
			if w := &all[i]; kind == w.kind && *w.id == 0 && t.named(name, w.name) {
				*w.id = id
				left--
			}
		}
	}
	return nil
}

// step passes over the next type and returns its kind.
func (t *typeInfo) step() (kind uint8, err error) {
	kind, size := t.extent(t.at)
	if size == 0 {
		if t.at == len(t.types) {
			return 0, errors.New("the kernel's type information has no iterator over TCP sockets, or not all of the types that it works with")
		}
		return 0, fmt.Errorf("%w: type %d is cut off or of an unknown kind", errBTF, t.next)
	}
	if t.next%markEvery == 1 {
		t.marks = append(t.marks, uint32(t.at))
	}
	t.next++
	t.at += size
	return kind, nil
}

// extent returns the kind of the type at an offset and how many bytes it takes,
// which is 0 if it is not a whole type.
func (t *typeInfo) extent(at int) (kind uint8, size int) {
	b := t.types[at:]
	if len(b) < typeSize {
		return 0, 0
	}
	info := binary.NativeEndian.Uint32(b[4:8])
	kind = uint8(info >> 24 & 31)
	of := &sizes[kind]
	size = int(of.fixed) + int(of.each)*int(info&0xffff)
	if size > len(b) {
		return kind, 0
	}
	return kind, size
}

// composite is a struct or a union.
type composite struct {
	fields  bool // bit fields: a member's offset has its width in the highest byte
	members []byte
}

// composite finds a struct or union by its number. It is nil for any other
// type.
func (t *typeInfo) composite(id typeID) (*composite, error) {
	if id == 0 {
		return nil, nil // void
	}
	for t.next <= id {
		if _, err := t.step(); err != nil {
			return nil, err
		}
	}
	at := int(t.marks[int(id-1)/markEvery])
	for range int(id-1) % markEvery {
		_, size := t.extent(at)
		at += size
	}
	kind, size := t.extent(at)
	if kind != kindStruct && kind != kindUnion {
		return nil, nil
	}
	info := binary.NativeEndian.Uint32(t.types[at+4:])
	return &composite{fields: info>>31 != 0, members: t.types[at+typeSize : at+size]}, nil
}

// place is where a member is within its struct, in bits. The width is that of
// a bit field, and 0 for any other member.
type place struct{ offset, width uint32 }

// maxDepth is how deep anonymous structs and unions may be nested. The kernel
// nests them three deep.
const maxDepth = 8

// member finds a member of a struct by name, also inside anonymous structs and
// unions, where the kernel keeps most of sock_common.
func (t *typeInfo) member(of typeID, name string) (place, error) {
	p, ok, err := t.search(of, name, 0)
	if err == nil && !ok {
		err = fmt.Errorf("the kernel's type information has no member %s where it is expected", name)
	}
	return p, err
}

func (t *typeInfo) search(of typeID, name string, depth int) (place, bool, error) {
	c, err := t.composite(of)
	if err != nil || c == nil || depth == maxDepth {
		return place{}, false, err
	}
	for m := c.members; len(m) >= memberSize; m = m[memberSize:] {
		at, member, offset := binary.NativeEndian.Uint32(m), typeID(binary.NativeEndian.Uint32(m[4:])), binary.NativeEndian.Uint32(m[8:])
		p := place{offset: offset}
		if c.fields {
			p = place{offset: offset & 0xffffff, width: offset >> 24}
		}
		switch {
		case t.named(at, name):
			return p, true, nil
		case t.named(at, ""):
			inner, ok, err := t.search(member, name, depth+1)
			if err != nil || ok {
				return place{p.offset + inner.offset, inner.width}, ok, err
			}
		}
	}
	return place{}, false, nil
}

// named reports whether the name at an offset of the names is this one.
func (t *typeInfo) named(at uint32, name string) bool {
	if uint64(at)+uint64(len(name)) >= uint64(len(t.names)) {
		return false
	}
	b := t.names[at:]
	return string(b[:len(name)]) == name && b[len(name)] == 0
}
