package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"rowcast/server/pgtest"
)

// The parts run as processes of their own, of this very binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if part, ok := parts[os.Args[1]]; ok {
			exit(part(os.Args[2:]))
		}
	}
	pgtest.Apart() // replication slots are made, and a role that others change has messages withheld
	goleak.VerifyTestMain(m)
}

func TestUnknownSeriesAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-only", "fanout,swerve"}, {"swerve"}, {"-only", "fanout", "swerve"}} {
		if _, err := run(t.Context(), args, t.Output()); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
