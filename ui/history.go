package ui

import (
	"time"

	"berth/netstate"
)

// window is how much of a port's past is kept.
const window = 2 * time.Minute

// sample is what a port looked like from At on, until the next sample.
type sample struct {
	at                  time.Time
	listen, estab, wait int
	bind                netstate.Tri // whether the asked bind would succeed
	gap                 bool         // nothing could be read
}

func (s sample) same(o sample) bool {
	o.at = s.at
	return s == o
}

// track is one port's past: a sample for each change, so that a quiet port
// costs nothing.
type track struct {
	samples []sample
	seen    int // the round of record in which the port last existed
}

func (t *track) last() sample {
	if len(t.samples) == 0 {
		return sample{}
	}
	return t.samples[len(t.samples)-1]
}

// add appends a change and forgets what is older than the window. The
// readings of an engine are ordered, but a probe's time may lie a little
// before the reading that arrived first: it is then moved up to it.
func (t *track) add(s sample) {
	if n := len(t.samples); n > 0 {
		if last := t.samples[n-1]; last.same(s) {
			return
		} else if s.at.Before(last.at) {
			s.at = last.at
		}
	}
	t.samples = append(t.samples, s)
	for len(t.samples) > 1 && t.samples[1].at.Before(s.at.Add(-window)) {
		t.samples = t.samples[1:]
	}
}

// when returns what the port looked like at a time; ok is false for a time
// before anybody looked.
func (t *track) when(at time.Time) (s sample, ok bool) {
	if t == nil {
		return s, false
	}
	for i := len(t.samples) - 1; i >= 0; i-- {
		if !t.samples[i].at.After(at) {
			return t.samples[i], !t.samples[i].gap
		}
	}
	return s, false
}

// during returns the samples that held at some time between two times, the
// one that held at the first included.
func (t *track) during(from, to time.Time) []sample {
	if t == nil {
		return nil
	}
	last := len(t.samples)
	for last > 0 && t.samples[last-1].at.After(to) {
		last--
	}
	first := last
	for first > 0 && t.samples[first-1].at.After(from) {
		first--
	}
	return t.samples[max(first-1, 0):last]
}

// history is the recent past of the ports that are shown.
type history struct {
	tracks map[placeID]*track
	round  int
}

func (h *history) of(id placeID) *track { return h.tracks[id] }

func (h *history) open(id placeID) *track {
	t := h.tracks[id]
	if t == nil {
		if h.tracks == nil {
			h.tracks = map[placeID]*track{}
		}
		t = &track{}
		h.tracks[id] = t
	}
	return t
}

// record adds one good reading of some network namespaces, by their number.
// The ports of others are not known meanwhile.
func (h *history) record(at time.Time, read map[uint64]bool, rows []portRow) {
	h.round++
	for i := range rows {
		r := &rows[i]
		t := h.open(r.id())
		t.seen = h.round
		bind := netstate.Unknown
		switch {
		case r.verdict != nil && !r.verdict.Unsure:
			bind = netstate.TriOf(r.verdict.Bindable)
		case r.verdict == nil && len(r.sockets) == 0 && t.last().bind == netstate.Yes:
			bind = netstate.Yes // It was free, and nothing has come since.
		}
		t.add(sample{at: at, listen: r.listen, estab: r.estab, wait: r.wait, bind: bind})
	}
	for id, t := range h.tracks {
		if t.seen == h.round {
			continue
		}
		last := t.last()
		gone := sample{at: at}
		if !read[id.netns] {
			gone = last
			gone.at, gone.gap = at, true
		}
		if last.same(gone) && last.at.Before(at.Add(-window)) {
			delete(h.tracks, id)
			continue
		}
		t.add(gone)
	}
}

// miss notes that a reading failed: what is not known is drawn as a gap and
// not as the last good value.
func (h *history) miss(at time.Time) {
	for _, t := range h.tracks {
		s := t.last()
		s.at, s.gap = at, true
		t.add(s)
	}
}

// probed adds the answer of one real bind.
func (h *history) probed(id placeID, at time.Time, bindable bool) {
	t := h.open(id)
	s := t.last()
	s.at, s.bind = at, netstate.TriOf(bindable)
	t.add(s)
}
