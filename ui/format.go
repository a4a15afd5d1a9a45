package ui

import (
	"fmt"
	"strings"
	"time"

	"berth/netstate"
	"berth/netstate/netns"
	"berth/ui/draw"
)

// clock prints a time of day as people read it.
func clock(t time.Time) string { return t.Format("15:04:05") }

// precise prints a time of day with milliseconds.
func precise(t time.Time) string { return t.Format("15:04:05.000") }

// left prints what is left until end: tenths of a second in the last ten.
// At zero a TIME-WAIT socket can still block for as long as the kernel's
// timer wheel takes to come round, up to 2 s.
func left(end, now time.Time) string {
	d := end.Sub(now)
	switch {
	case d <= 0:
		return "ending"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

// tenths is left with tenths throughout, for a column in which they move.
func tenths(end, now time.Time) string {
	if d := end.Sub(now); d > 0 {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return "ending"
}

// age prints how long something has been so: "4 s", "12 m", "2 h 14 m", "3 d".
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d m", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d m", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

// short prints a bound or a duration of an event: "500 ms", "3.0 s", "2 m".
func short(d time.Duration) string {
	switch {
	case 0 < d && d < time.Millisecond:
		return "< 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return age(d)
}

// command prints a command line so that its arguments can be told apart.
func command(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\$`&|;<>()*?") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		out[i] = a
	}
	return strings.Join(out, " ")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// who names a holder shortly: "node 4211".
func who(h netstate.Holder) string {
	if h.Name == "" {
		return fmt.Sprintf("pid %d", h.ID.PID)
	}
	return fmt.Sprintf("%s %d", h.Name, h.ID.PID)
}

// whoIn names a holder with its user and its container, as much of it as there
// is room for in w cells: "nginx 4211 (root, docker 3f2a61c09b1e)". What is
// left out first says least: the user, the container's number, its engine.
func whoIn(h netstate.Holder, you string, w int, ascii bool) string {
	name, abouts := who(h), []string{from(h, you)}
	if h.Container != "" {
		engine, _, _ := strings.Cut(h.Container, " ")
		abouts = append(abouts, h.Container, engine)
	}
	for _, about := range abouts {
		if text := draw.Fit(name+" ("+about+")", w+2, ascii); draw.Width(text) <= w {
			return text
		}
	}
	return draw.Fit(name, w, ascii)
}

// namespace names a network namespace in w cells. Where there is no room for
// all of it, the last word tells more than the first: of "docker 3f2a61c09b1e"
// the number, of "nginx 4211" the process.
func namespace(ns netns.Namespace, w int, ascii bool) string {
	if ns.Own() {
		return "-"
	}
	name := draw.Fit(ns.String(), w+2, ascii)
	if draw.Width(name) <= w {
		return name
	}
	return draw.Fit(ns.String()[strings.LastIndexByte(ns.String(), ' ')+1:], w, ascii)
}

// from is the user of a holder, and its container if it has one.
func from(h netstate.Holder, you string) string {
	if h.Container == "" {
		return user(h, you)
	}
	return user(h, you) + ", " + h.Container
}

// user names the user of a holder; you is the user of this berth.
func user(h netstate.Holder, you string) string {
	switch {
	case h.User == "" && h.UID >= 0:
		return fmt.Sprintf("uid %d", h.UID)
	case h.User == "":
		return "user unknown"
	case h.User == you:
		return "you"
	}
	return h.User
}
