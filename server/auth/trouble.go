package auth

import "strings"

const (
	timedOut     = "57014" // query_canceled: by our own timer, if the time was used up
	lockTimedOut = "55P03" // lock_not_available
)

// endsBatch tells after which errors _decide asks no more.
func endsBatch(code string) bool { return code == timedOut || code == lockTimedOut }

// saysNothing tells errors that are the database's at this moment and say nothing about a policy. What is refused because
// of one must not look like a denial, which is final for a client.
func saysNothing(code string) bool {
	if code == lockTimedOut || code == "25006" { // read_only_sql_transaction
		return true
	}
	for _, class := range []string{
		"40",   // rolled back: deadlock, serialization
		"53",   // no disk, no memory, no connections
		"57P0", // shutting down, starting up
		"58",   // the system below
		"XX",   // internal
	} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}
