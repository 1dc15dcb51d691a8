package changes

import (
	"testing"

	"go.uber.org/goleak"

	"rowcast/server/pgtest"
)

func TestMain(m *testing.M) {
	pgtest.Apart() // replication slots are made
	goleak.VerifyTestMain(m)
}
