package netstate

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/windows"
)

// startToken returns the start of the process in 100 ns units since 1601. A
// process that has ended can still be opened while somebody keeps a handle to
// it, so its end is asked for as well.
func startToken(pid int) (uint64, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.SYNCHRONIZE, false, uint32(pid))
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return 0, fs.ErrNotExist // how Windows says that no process has this number
	}
	if err != nil {
		return 0, err
	}
	defer windows.CloseHandle(h)
	if event, err := windows.WaitForSingleObject(h, 0); err == nil && event == windows.WAIT_OBJECT_0 {
		return 0, fs.ErrNotExist
	}
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &exited, &kernel, &user); err != nil {
		return 0, err
	}
	return uint64(created.HighDateTime)<<32 | uint64(created.LowDateTime), nil
}

func startTime(id ProcessID) time.Time {
	t := windows.Filetime{LowDateTime: uint32(id.Start), HighDateTime: uint32(id.Start >> 32)}
	return time.Unix(0, t.Nanoseconds())
}
