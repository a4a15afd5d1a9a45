package ui

import (
	"testing"
	"time"

	"berth/netstate"
)

func TestFormat(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{left(at(57.9), at(0)), "57 s"},
		{left(at(4.12), at(0)), "4.1 s"},
		{left(at(0), at(0)), "ending"},
		{tenths(at(57.92), at(0)), "57.9 s"},
		{tenths(at(0), at(1)), "ending"},
		{age(-time.Second), "0 s"},
		{age(59 * time.Second), "59 s"},
		{age(12 * time.Minute), "12 m"},
		{age(134 * time.Minute), "2 h 14 m"},
		{age(76 * time.Hour), "3 d"},
		{short(0), "0 ms"},
		{short(41 * time.Microsecond), "< 1 ms"},
		{short(420 * time.Millisecond), "420 ms"},
		{short(3 * time.Second), "3.0 s"},
		{short(2 * time.Minute), "2 m"},
		{command([]string{"node", "server.js", "--port=80"}), "node server.js --port=80"},
		{command([]string{"sh", "-c", "echo it's", ""}), `sh -c 'echo it'\''s' ''`},
		{who(netstate.Holder{ID: netstate.ProcessID{PID: 7}}), "pid 7"},
		{user(netstate.Holder{UID: 33}, "ada"), "uid 33"},
		{user(netstate.Holder{UID: -1}, "ada"), "user unknown"},
		{user(netstate.Holder{User: "ada"}, "ada"), "you"},
		{user(netstate.Holder{User: "bob"}, "ada"), "bob"},
		{user(netstate.Holder{UID: -1}, ""), "user unknown"},
		{seconds(-15 * time.Second), "-15 s"},
		{seconds(500 * time.Millisecond), "0.5 s"},
		{count(1, "socket", "sockets"), "1 socket"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestScroll(t *testing.T) {
	var s scroll
	for _, c := range []struct {
		do      action
		at, top int
	}{
		{actUp, 0, 0}, {actDown, 1, 0}, {actHalfDown, 3, 0}, {actDown, 4, 0}, {actDown, 5, 1}, {actLast, 19, 15},
		{actDown, 19, 15}, {actHalfUp, 17, 15}, {actFirst, 0, 0},
	} {
		s.move(c.do, 20, 5)
		if s.at != c.at || s.top != c.top {
			t.Errorf("after %d: at %d, top %d; want %d, %d", c.do, s.at, s.top, c.at, c.top)
		}
	}
	s = scroll{at: 19, top: 15}
	s.clamp(3, 5)
	if from, to := s.visible(3, 5); s.at != 2 || from != 0 || to != 3 {
		t.Errorf("a list that shrank: at %d, rows %d to %d", s.at, from, to)
	}
	s.clamp(0, 5)
	if from, to := s.visible(0, 5); s.at != 0 || from != 0 || to != 0 {
		t.Errorf("an empty list: at %d, rows %d to %d", s.at, from, to)
	}
}
