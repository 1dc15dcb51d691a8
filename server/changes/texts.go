package changes

import (
	"fmt"

	"rowcast/server/protocol"
)

// notice is what a member is told, and by which name. Without one, all is well.
type notice struct {
	code protocol.Code
	text string
}

// away is said while the database cannot be asked.
var away = notice{protocol.PostgresChangesUnavailable, protocol.PostgresChangesUnavailable.Text()}

// slotWaits is said while the making of a slot waits for transactions.
var slotWaits = notice{protocol.PostgresChangesUnavailable, protocol.TextChangesSlotWaits}

// Passes tells of what a member was told whether it is tried again soon by itself. What does not pass waits for somebody to do something.
func Passes(code protocol.Code, text string) bool {
	n := notice{code, text}
	return n == away || n == slotWaits
}

// noSnapshot says why there is none.
func noSnapshot(format string, args ...any) notice {
	return notice{protocol.PostgresChangesSnapshot, fmt.Sprintf(format, args...)}
}

// Why a snapshot is refused.
const (
	textSnapshotKey    = "there is no primary key"
	textSnapshotRights = "whether you may see the rows cannot be decided"
	textSnapshotSieve  = "the publication's row filter looks at columns that you may not read"
)

// gapCause says how changes were missed; it labels the metric.
type gapCause string

const (
	gapStream    gapCause = "stream"    // the connection that reads the WAL was lost, or its slot
	gapUndecided gapCause = "undecided" // who could see a row was not known any more, or could not be found out
	gapExcess    gapCause = "excess"    // more waited for a snapshot to be complete than may wait
	gapAgain     gapCause = "again"     // a snapshot of which rows were given begins again
)

var gapTexts = map[gapCause]string{
	gapStream: protocol.TextGapStream, gapUndecided: protocol.TextGapUndecided, gapExcess: protocol.TextGapExcess,
	gapAgain: protocol.TextGapAgain,
}
