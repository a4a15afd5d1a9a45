package report

import (
	"slices"
	"strconv"
	"time"

	"berth/reclaim"
)

// Plan is a reclaim.Plan: what "free" is going to do.
type Plan struct {
	Schema   int       `json:"schema"`
	Event    string    `json:"event"` // always "plan"
	At       stamp     `json:"at"`
	Bind     Bind      `json:"bind"`
	Reason   string    `json:"reason"`
	Summary  string    `json:"summary"`
	Feasible bool      `json:"feasible"`
	Steps    []Step    `json:"steps"`
	Risks    []string  `json:"risks"`
	Refused  []Refusal `json:"refused"`
	// Confirm is the name that must be typed, or null if "yes" is enough.
	Confirm    *string `json:"confirm"`
	ConfirmWhy *string `json:"confirm_why"`
}

// Step is a reclaim.Step.
type Step struct {
	Step     string   `json:"step"`
	Signal   *string  `json:"signal"`
	Text     string   `json:"text"`
	Holder   *Holder  `json:"holder"`
	Sockets  []Socket `json:"sockets"`
	AtMostMS int64    `json:"at_most_ms"`
	Needs    *string  `json:"needs"`
}

// Refusal is a reclaim.Refusal: a holder that the plan may not touch, or,
// without one, another reason that the port cannot be freed.
type Refusal struct {
	Holder *Holder `json:"holder"`
	Why    string  `json:"why"`
}

// NewPlan makes the JSON form of p.
func NewPlan(p *reclaim.Plan) Plan {
	at := p.Verdict.At
	j := Plan{
		Schema: Schema, Event: "plan", At: stamp(at), Bind: newBind(p.Spec),
		Reason: string(p.Verdict.Reason), Summary: p.Verdict.Summary, Feasible: p.Feasible,
		Steps: []Step{}, Risks: append([]string{}, p.Risks...), Refused: []Refusal{},
		Confirm: text(p.Typed), ConfirmWhy: text(p.TypedWhy),
	}
	for _, s := range p.Steps {
		js := Step{
			Step: string(s.Kind), Text: s.Text, Sockets: []Socket{},
			AtMostMS: s.AtMost.Milliseconds(), Needs: text(s.Needs),
		}
		if s.Signal != 0 {
			js.Signal = text(reclaim.SignalName(s.Signal))
		}
		if s.Holder.ID.PID != 0 {
			h := newHolder(s.Holder)
			js.Holder = &h
		}
		for i := range s.Sockets {
			js.Sockets = append(js.Sockets, newSocket(&s.Sockets[i], p.Clears(&s.Sockets[i]), at))
		}
		j.Steps = append(j.Steps, js)
	}
	for _, r := range p.Refused {
		jr := Refusal{Why: r.Why}
		if r.Holder.ID.PID != 0 {
			h := newHolder(r.Holder)
			jr.Holder = &h
		}
		j.Refused = append(j.Refused, jr)
	}
	return j
}

// Plan writes what will happen, how long it may take, what it needs and what
// is lost, or why nothing will.
func (t *Text) Plan(p *reclaim.Plan) error {
	t.line("%s %s", t.verdictMark(&p.Verdict), t.bold(t.Clean(p.Verdict.Summary)))
	needs := slices.ContainsFunc(p.Steps, func(s reclaim.Step) bool { return s.Needs != "" })
	if p.Feasible || needs {
		// A plan that is refused for other reasons has no steps worth reading.
		t.steps(p)
	}
	for _, r := range p.Refused {
		if r.Holder.ID.PID != 0 {
			t.line("%s", t.warn(t.Name(r.Holder)+" "+r.Why+": it is not touched"))
		} else {
			t.line("%s", t.warn(r.Why))
		}
	}
	if !p.Feasible {
		t.line("%s", t.warn("this plan cannot free the port, so nothing will be done"))
	}
	return t.err
}

func (t *Text) steps(p *reclaim.Plan) {
	t.line("to free %s:", p.Spec)
	rows := make([][]string, len(p.Steps))
	for i, s := range p.Steps {
		rows[i] = []string{"  " + strconv.Itoa(i+1), t.Clean(s.Text), t.bound(s.AtMost), t.needs(s.Needs)}
	}
	for _, l := range table(rows) {
		t.line("%s", l)
	}
	for _, r := range p.Risks {
		t.line("%s", t.warn(r))
	}
	if p.Typed != "" {
		t.line("%s", t.warn(p.TypedWhy+": the name "+p.Typed+" must be typed to confirm"))
	}
}

func (t *Text) bound(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return "at most " + duration(d)
}

func (t *Text) needs(s string) string {
	if s == "" {
		return ""
	}
	return "needs " + t.Clean(s)
}

func (t *Text) warn(s string) string { return "! " + t.Clean(s) }
