package netstate_test

import (
	"testing"

	"berth/netstate/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
