package netstate

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// environment makes a map of "NAME=value" words; nil if there are none, which
// is how an environment that may not be read looks. Of two definitions the
// first counts, as for getenv(3).
func environment(words []string) map[string]string {
	if len(words) == 0 {
		return nil
	}
	env := make(map[string]string, len(words))
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if _, defined := env[name]; ok && !defined {
			env[name] = value
		}
	}
	return env
}

// parseProcArgs reads the environment from the answer of macOS's
// KERN_PROCARGS2: the number of arguments, the path of the program, zero bytes
// up to a word's border, the arguments, and then the environment, each ended
// by a zero byte, until an empty one.
func parseProcArgs(b []byte) []string {
	if len(b) < 4 {
		return nil
	}
	arguments := int(binary.NativeEndian.Uint32(b))
	_, rest, _ := bytes.Cut(b[4:], []byte{0})
	rest = bytes.TrimLeft(rest, "\x00")
	var env []string
	for len(rest) > 0 {
		word, after, ended := bytes.Cut(rest, []byte{0})
		rest = after
		switch {
		case arguments > 0:
			arguments--
		case !ended || len(word) == 0:
			return env
		default:
			env = append(env, string(word))
		}
	}
	return env
}
