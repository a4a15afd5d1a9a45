package netstate

import "golang.org/x/sys/windows"

// windowsCaps: the table of the IP helper names a process for each socket and
// tells nothing about time. TIME-WAIT never refuses a listening bind on
// Windows, so nothing is lost by that.
func windowsCaps() Caps {
	c := Caps{
		Source:     "iphlpapi",
		AllHolders: windows.GetCurrentProcessToken().IsElevated(),
		Notes:      []string{"no countdown here: Windows does not tell how long a TIME-WAIT socket has left, and TIME-WAIT does not refuse a server's bind"},
	}
	if !c.AllHolders {
		c.Notes = append(c.Notes, "some facts about other users' processes are hidden: run as administrator to see them")
	}
	return c
}
