package lab

import (
	"os"
)

// Runner is the part of *testing.M that Main needs; package testing is not
// imported, because it would add its flags to a program that uses the lab.
type Runner interface{ Run() int }

// Main runs the tests inside a network namespace of their own and ends the
// process with their exit status. Where no namespace can be made, the tests
// run in place and Isolated reports false.
//
// The whole process is executed again, with the same arguments, environment
// and standard streams, and this one waits: signals are passed on to the
// tests, and if this process is killed, so are they.
func Main(m Runner) { os.Exit(runTests(m)) }

// Isolated reports whether this process runs in a network namespace that Main
// has made.
func Isolated() bool { return isolated() }

// TB is the part of *testing.T that NeedNamespace needs.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
}

// NeedNamespace skips a test unless it runs in a network namespace that Main
// has made, and says why there is none.
func NeedNamespace(tb TB) {
	tb.Helper()
	if Isolated() {
		return
	}
	why := os.Getenv(failureEnv)
	if why == "" {
		why = "TestMain does not call lab.Main"
	}
	tb.Skipf("needs a network namespace of its own (CAP_SYS_ADMIN, or user namespaces): %s", why)
}

// failureEnv tells the tests why Main could not make a namespace. It is set
// by the process itself, not by whoever starts it.
const failureEnv = "BERTH_LAB_FAILURE"
