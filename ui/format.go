package ui

import (
	"fmt"
	"strings"
	"time"

	"berth/netstate"
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
