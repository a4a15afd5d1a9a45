package report

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"berth/netstate"
)

// Verdict is a netstate.Verdict, the answer of "why".
type Verdict struct {
	Schema   int       `json:"schema"`
	At       stamp     `json:"at"`
	Bind     Bind      `json:"bind"`
	Bindable *bool     `json:"bindable"`
	Errno    *string   `json:"errno"`
	Evidence string    `json:"evidence"`
	Reason   string    `json:"reason"`
	Summary  string    `json:"summary"`
	Blockers []Blocker `json:"blockers"`
	Possible []Blocker `json:"possible"`
	Clears
	Cures  []Cure         `json:"cures"`
	Matrix []Cell         `json:"matrix"`
	Counts map[string]int `json:"counts"`
	Note   *string        `json:"note"`
}

// Blocker is a netstate.Blocker: a socket that refuses the bind.
type Blocker struct {
	Socket
	Certain  bool     `json:"certain"`
	Outbound *bool    `json:"outbound"`
	Holders  []Holder `json:"holders"`
}

// Cure is a netstate.Cure. Command is null if no command of berth does it.
type Cure struct {
	Action  string  `json:"action"`
	Text    string  `json:"text"`
	Command *string `json:"command"`
}

// Cell is a netstate.Cell. Bindable is null if the rules cannot tell.
type Cell struct {
	Host      string `json:"host"`
	ReuseAddr bool   `json:"reuseaddr"`
	ReusePort bool   `json:"reuseport"`
	V6Only    bool   `json:"v6only"`
	Bindable  *bool  `json:"bindable"`
}

// NewVerdict makes the JSON form of v.
func NewVerdict(v *netstate.Verdict) Verdict {
	j := Verdict{
		Schema: Schema, At: stamp(v.At), Bind: newBind(v.Spec), Bindable: bindable(v),
		Errno: text(v.Errno), Evidence: string(v.Evidence), Reason: reason(v),
		Summary: v.Summary, Clears: newClears(v.Clears, v.At), Counts: counts(v.Counts),
		Blockers: newBlockers(v.Blockers, v.At), Possible: newBlockers(v.Possible, v.At), Cures: []Cure{}, Matrix: []Cell{}, Note: text(v.Note),
	}
	for _, c := range v.Cures {
		j.Cures = append(j.Cures, Cure{Action: string(c.Action), Text: c.Text, Command: text(c.Command)})
	}
	for _, c := range v.Matrix {
		j.Matrix = append(j.Matrix, Cell{
			Host: c.Spec.Host(), ReuseAddr: c.Spec.ReuseAddr, ReusePort: c.Spec.ReusePort,
			V6Only: c.Spec.V6Only, Bindable: tri(c.Bindable),
		})
	}
	return j
}

func newBlockers(blockers []netstate.Blocker, at time.Time) []Blocker {
	out := make([]Blocker, 0, len(blockers))
	for i := range blockers {
		b := &blockers[i]
		out = append(out, Blocker{
			Socket: newSocket(&b.Socket, b.Clears, at), Certain: b.Certain,
			Outbound: tri(b.Outbound), Holders: newHolders(b.Holders),
		})
	}
	return out
}

// bindable and reason are not known if the rules alone could not tell.

func bindable(v *netstate.Verdict) *bool {
	if v.Unsure {
		return nil
	}
	return &v.Bindable
}

func reason(v *netstate.Verdict) string {
	if v.Unsure {
		return string(netstate.ReasonUnknown)
	}
	return string(v.Reason)
}

// maxBlockers is how many blockers Text lists; JSON has all.
const maxBlockers = 12

// Verdict writes the answer, what it rests on, and what helps.
func (t *Text) Verdict(v *netstate.Verdict) error {
	t.line("%s %s", t.verdictMark(v), t.bold(t.Clean(v.Summary)))
	if len(v.Blockers) > 0 {
		t.line("")
		if v.Unsure {
			t.line("what may block it")
		} else {
			t.line("blocked by")
		}
		t.blockers(v)
	}
	if len(v.Cures) > 0 {
		t.line("")
		t.line("what helps")
		rows := make([][]string, len(v.Cures))
		for i, c := range v.Cures {
			rows[i] = []string{"  " + t.Clean(c.Command), t.Clean(c.Text)}
		}
		for _, l := range table(rows) {
			t.line("%s", l)
		}
	}
	if len(v.Counts) > 0 {
		t.line("")
		t.line("on port %d: %s", v.Spec.Port, countsText(v.Counts))
	}
	if v.Note != "" {
		t.line("note: %s", t.Clean(v.Note))
	}
	if v.Evidence == netstate.EvidenceRules {
		t.line("note: this is what the rules say; no bind was made")
	}
	return t.err
}

func (t *Text) verdictMark(v *netstate.Verdict) string {
	switch {
	case v.Bindable:
		return t.mark("✓", "ok")
	case v.Reason == netstate.ReasonLingering:
		return t.mark("◔", "~")
	}
	return t.red(t.mark("✗", "X"))
}

// blockers lists each blocking socket once, and the facts of each holder
// under the first socket that it holds.
func (t *Text) blockers(v *netstate.Verdict) {
	told := map[int]bool{}
	uncertain := "(one of these)"
	if len(v.Possible) > 0 || slices.ContainsFunc(v.Blockers, func(b netstate.Blocker) bool { return b.Certain }) {
		uncertain = "(probably)"
	}
	for i := range v.Blockers {
		if i == maxBlockers {
			t.line("  %s and %s", t.mark("…", "..."), plural(len(v.Blockers)-i, "other socket", "other sockets"))
			return
		}
		b := &v.Blockers[i]
		words := []string{b.Socket.State.String(), t.socket(&b.Socket)}
		if !b.Certain && !v.Unsure {
			words = append(words, uncertain)
		}
		if len(b.Holders) > 0 {
			words = append(words, t.names(b.Holders))
		} else if b.Socket.Owned() && v.Caps.AllHolders {
			words = append(words, "no visible process")
		} else if b.Socket.Owned() {
			words = append(words, "holder hidden from you")
		} else {
			words = append(words, "no process")
		}
		if left := t.left(b.Clears, v.At); left != "" {
			words = append(words, left)
		}
		t.line("  %s", strings.Join(words, "  "))
		for _, h := range b.Holders {
			if !told[h.ID.PID] {
				told[h.ID.PID] = true
				t.holder(h, v.At)
			}
		}
	}
}

// socket is "127.0.0.1:80" or, with a peer, "127.0.0.1:80 → 127.0.0.1:5000".
func (t *Text) socket(s *netstate.Socket) string {
	if !s.Remote.IsValid() {
		return s.Local.String()
	}
	return s.Local.String() + t.mark(" → ", " -> ") + s.Remote.String()
}

// left says how long until c, or nothing if that is not known.
func (t *Text) left(c netstate.Clears, at time.Time) string {
	if !c.Known() {
		return ""
	}
	left, most := netstate.Seconds(c.From.Sub(at)), netstate.Seconds(c.Until.Sub(at))
	if most == left {
		return left + " left"
	}
	return left + " left, at most " + most
}

func (t *Text) holder(h netstate.Holder, now time.Time) {
	if len(h.Cmdline) > 0 {
		t.line("    command  %s", t.command(h.Cmdline))
	}
	if !h.Started.IsZero() {
		t.line("    up       %s, since %s", duration(now.Sub(h.Started)), h.Started.Local().Format("2006-01-02 15:04:05"))
	}
	if h.Cwd != "" {
		t.line("    in       %s", t.Clean(h.Cwd))
	}
	if len(h.Parents) > 0 {
		parents := make([]string, len(h.Parents))
		for i, p := range h.Parents {
			parents[i] = t.Clean(p.Name) + " " + strconv.Itoa(p.PID)
		}
		t.line("    under    %s", strings.Join(parents, " < "))
	}
	if h.Unit != "" {
		t.line("    unit     %s", t.Clean(h.Unit))
	}
	if h.Container != "" {
		t.line("    inside   container %s", t.Clean(strings.TrimPrefix(h.Container, "container ")))
	}
	if h.Supervisor != nil {
		t.line("    restarts %s", t.supervisor(h.Supervisor))
	}
}

// supervisor is "systemd: nginx.service (systemctl stop nginx.service)".
func (t *Text) supervisor(s *netstate.Supervisor) string {
	words := string(s.Kind)
	if s.Name != "" {
		words += ": " + t.Clean(s.Name)
	}
	switch {
	case s.HoldsPort:
		words += ", which holds the port itself"
	case s.OnChange:
		words += ", when a file changes"
	case s.Restarts == netstate.No:
		words += ", not by itself"
	case s.Restarts == netstate.Unknown:
		words += ", perhaps"
	}
	switch {
	case s.Stop != "":
		words += " (" + t.Clean(s.Stop) + ")"
	case s.Find != "":
		words += " (" + t.Clean(s.Find) + ")"
	}
	return words
}

// countsText is "1 LISTEN, 12 TIME-WAIT", in the order in which states matter.
func countsText(m map[netstate.State]int) string {
	states := make([]netstate.State, 0, len(m))
	for s := range m {
		states = append(states, s)
	}
	rank := map[netstate.State]int{netstate.Listen: -3, netstate.Bound: -2, netstate.Established: -1, netstate.TimeWait: 99}
	at := func(s netstate.State) int {
		if r, ok := rank[s]; ok {
			return r
		}
		return int(s)
	}
	sort.Slice(states, func(i, j int) bool { return at(states[i]) < at(states[j]) })
	words := make([]string, 0, len(m))
	for _, s := range states {
		if m[s] > 0 {
			words = append(words, strconv.Itoa(m[s])+" "+s.String())
		}
	}
	if len(words) == 0 {
		return "no socket"
	}
	return strings.Join(words, ", ")
}
