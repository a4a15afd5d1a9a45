package report

import (
	"bytes"
	"encoding/json"
	"io"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"berth/netstate"
)

// Schema is the version of every JSON object that this package writes. It
// changes when a field changes its meaning or goes away, not when one is
// added.
const Schema = 1

// Encode writes v as one line of JSON. Characters that a terminal would obey
// rather than show are escaped, so that the line is safe to look at and still
// decodes to the exact text.
func Encode(w io.Writer, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escapeUnprintable(buf.Bytes()))
	return err
}

// escapeUnprintable replaces what is not printable by its \u escape. In JSON
// such a character can only stand inside a string, where the escape means the
// same; the final newline is the only one that is not inside one.
func escapeUnprintable(line []byte) []byte {
	const hex = "0123456789abcdef"
	out := make([]byte, 0, len(line))
	escape := func(u uint16) {
		out = append(out, '\\', 'u', hex[u>>12], hex[u>>8&15], hex[u>>4&15], hex[u&15])
	}
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out = append(out, line[:n]...)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			escape(uint16(hi))
			escape(uint16(lo))
		default:
			escape(uint16(r))
		}
		line = line[n:]
	}
	return out
}

// stamp is a time in UTC to the millisecond, or null if there is none.
type stamp time.Time

func (s stamp) MarshalJSON() ([]byte, error) {
	t := time.Time(s)
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// A fact that is not known is null. These turn Go's "empty" into a nil pointer.

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func tri(t netstate.Tri) *bool {
	if t == netstate.Unknown {
		return nil
	}
	b := t == netstate.Yes
	return &b
}

func millis(d time.Duration) *int64 {
	ms := d.Milliseconds()
	return &ms
}

// Clears is a netstate.Clears: in how long something ends by itself, at the
// earliest and at the latest. Both are null if no end is known.
type Clears struct {
	ClearsInMS       *int64 `json:"clears_in_ms"`
	ClearsInAtMostMS *int64 `json:"clears_in_at_most_ms"`
}

func newClears(c netstate.Clears, at time.Time) Clears {
	if !c.Known() {
		return Clears{}
	}
	return Clears{millis(max(0, c.From.Sub(at))), millis(max(0, c.Until.Sub(at)))}
}

// Bind is a netstate.BindSpec.
type Bind struct {
	Proto     string  `json:"proto"`
	Host      string  `json:"host"`
	Port      uint16  `json:"port"`
	ReuseAddr bool    `json:"reuseaddr"`
	ReusePort bool    `json:"reuseport"`
	V6Only    bool    `json:"v6only"`
	UID       *uint32 `json:"uid"`
	NetNS     *string `json:"netns"`
}

func newBind(spec netstate.BindSpec) Bind {
	j := Bind{
		Proto: spec.Protocol.String(), Host: spec.Host(), Port: spec.Port, NetNS: text(spec.NetNS.String()),
		ReuseAddr: spec.ReuseAddr, ReusePort: spec.ReusePort, V6Only: spec.V6Only,
	}
	if spec.UID != noUID {
		j.UID = &spec.UID
	}
	return j
}

// noUID is what os.Getuid's -1 becomes on systems that have no user numbers.
const noUID = ^uint32(0)

// Holder is a netstate.Holder.
type Holder struct {
	PID       int               `json:"pid"`
	Started   stamp             `json:"started"`
	Name      *string           `json:"name"`
	Cmdline   []string          `json:"cmdline"`
	User      *string           `json:"user"`
	UID       *int              `json:"uid"`
	Cwd       *string           `json:"cwd"`
	FD        *int              `json:"fd"`
	Parents   []netstate.Parent `json:"parents"`
	Unit      *string           `json:"unit"`
	Container *string           `json:"container"`
	// Supervisor is null if none was recognised.
	Supervisor *Supervisor `json:"supervisor"`
}

// Supervisor is a netstate.Supervisor. Stop and Restart are commands for a
// POSIX shell. Restarts is null if it depends on what cannot be seen.
type Supervisor struct {
	Kind      string  `json:"kind"`
	Name      *string `json:"name"`
	PID       *int    `json:"pid"`
	Stop      *string `json:"stop"`
	Restart   *string `json:"restart"`
	Find      *string `json:"find"`
	Restarts  *bool   `json:"restarts"`
	OnChange  bool    `json:"on_change"`
	HoldsPort bool    `json:"holds_port"`
}

func newSupervisor(s *netstate.Supervisor) *Supervisor {
	if s == nil {
		return nil
	}
	j := &Supervisor{
		Kind: string(s.Kind), Name: text(s.Name), Stop: text(s.Stop), Restart: text(s.Restart), Find: text(s.Find),
		Restarts: tri(s.Restarts), OnChange: s.OnChange, HoldsPort: s.HoldsPort,
	}
	if s.PID != 0 {
		j.PID = &s.PID
	}
	return j
}

func newHolder(h netstate.Holder) Holder {
	j := Holder{
		PID: h.ID.PID, Started: stamp(h.Started), Name: text(h.Name), Cmdline: h.Cmdline,
		User: text(h.User), Cwd: text(h.Cwd), Parents: h.Parents,
		Unit: text(h.Unit), Container: text(h.Container), Supervisor: newSupervisor(h.Supervisor),
	}
	if h.UID >= 0 {
		j.UID = &h.UID
	}
	if h.FD >= 0 {
		j.FD = &h.FD
	}
	return j
}

func newHolders(hs []netstate.Holder) []Holder {
	out := make([]Holder, 0, len(hs))
	for _, h := range hs {
		out = append(out, newHolder(h))
	}
	return out
}

// Socket is a netstate.Socket.
type Socket struct {
	Addr      string  `json:"addr"`
	Port      uint16  `json:"port"`
	Remote    *string `json:"remote"`
	Family    string  `json:"family"`
	State     string  `json:"state"`
	ReuseAddr *bool   `json:"reuseaddr"`
	ReusePort *bool   `json:"reuseport"`
	V6Only    *bool   `json:"v6only"`
	FlagsFrom *string `json:"flags_from"`
	UID       *uint32 `json:"uid"`
	Inode     *uint64 `json:"inode"`
	RecvQ     uint32  `json:"recv_q"`
	SendQ     uint32  `json:"send_q"`
	Clears
}

func newSocket(s *netstate.Socket, clears netstate.Clears, at time.Time) Socket {
	j := Socket{
		Addr: s.Local.Addr().String(), Port: s.Local.Port(),
		Family: s.Family.String(), State: s.State.String(),
		ReuseAddr: tri(s.ReuseAddr), ReusePort: tri(s.ReusePort), V6Only: tri(s.V6Only),
		FlagsFrom: text(string(s.FlagsFrom)), RecvQ: s.RecvQ, SendQ: s.SendQ,
		Clears: newClears(clears, at),
	}
	if s.Remote.IsValid() {
		remote := s.Remote.String()
		j.Remote = &remote
	}
	if s.UIDKnown {
		j.UID = &s.UID
	}
	if s.Inode != 0 {
		j.Inode = &s.Inode
	}
	return j
}

func counts(m map[netstate.State]int) map[string]int {
	out := make(map[string]int, len(m))
	for state, n := range m {
		out[state.String()] = n
	}
	return out
}
