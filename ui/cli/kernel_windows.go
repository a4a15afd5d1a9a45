package cli

// kernelName is the system; its version needs no more room in a header.
func kernelName() string { return "windows" }
