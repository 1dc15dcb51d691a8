package changes

import (
	"fmt"
	"time"

	"rowcast/server/protocol"
)

// mayHear refuses those who cannot be asked about, and says so: to them that, to the log why.
func (t *trial) mayHear(h *hearing, r *row, a *audience, s *sight) bool {
	if s.Undecided && s.Code == "" { // by the fault of others
		t.Metrics.ChangesRefused.WithLabelValues(refusedSlow).Inc()
		t.missedBy(a, r.xid)
		return false
	}
	if s.failedAt(r.stateIn(h).place) {
		t.refuse(h, a, s)
		return false
	}
	if s.Missing != "" && len(h.Key) > 0 {
		t.warnAll(h, a, warningGrant, fmt.Sprintf(protocol.TextChangesGrant, h.Schema, h.Name, s.Missing))
	}
	return true
}

// refuse keeps a row from those whose policies could not be asked about it, and says so.
func (t *trial) refuse(h *hearing, a *audience, s *sight) {
	reason := refusedPolicy
	switch {
	case s.Refusal != "":
		reason = refusedRole
	case s.Undecided, s.Code == "57014":
		reason = refusedSlow
	}
	t.Metrics.ChangesRefused.WithLabelValues(reason).Inc()
	t.warnAll(h, a, warningPolicy, fmt.Sprintf(protocol.TextChangesUndecided, h.Schema, h.Name), "sqlstate", s.Code, "detail", s.Refusal+s.Reason, "table", h.Schema+"."+h.Name, "role", a.group.Role)
}

// Why changes were kept from somebody; labels of the metric.
const (
	refusedPolicy = "policy" // the policies ended in an error
	refusedSlow   = "slow"   // they took too long
	refusedRole   = "role"   // no such role, or one that bypasses row level security and may not
	refusedFilter = "filter" // the role may not read a column of the filter
	refusedGrant  = "grant"  // the role may not read the primary key
	refusedKey    = "key"    // there is no primary key to look for the row by

	refusedReplaced = "replaced" // by the time it was asked about, the row had other values where policies look
)

// warning is what somebody is told once, until it is over.
type warning uint8

const (
	warningPolicy warning = iota
	warningGrant
)

// warningOf is a warning about a table.
type warningOf struct {
	warning
	table uint32
}

// warnAll tells an audience, and the log: of each role once until it works again, and not again soon.
func (t *trial) warnAll(h *hearing, a *audience, w warning, text string, why ...any) {
	for _, seat := range a.seats {
		if sub := seat.sub; sub.active && !sub.ended.Load() {
			sub.warn(warningOf{w, h.OID}, text)
		}
	}
	if len(why) == 0 {
		return
	}
	said := h.logged[a.group.Role]
	if !said.at.IsZero() && (!said.over || time.Since(said.at) < logAgain) {
		said.over = false
		h.logged[a.group.Role] = said
		return
	}
	h.logged[a.group.Role] = saying{at: time.Now()}
	t.Logger.Warn("changes are kept from subscribers", why...)
}

// logAgain is how long the log does not say again what was over in between.
const logAgain = time.Minute

// saying is when the log said that changes are kept from users of a role, and whether some were told since.
type saying struct {
	at   time.Time
	over bool
}

// works notes that changes reach users of a role.
func (t *table) works(role string) {
	if said, there := t.logged[role]; there {
		said.over = true
		t.logged[role] = said
	}
}
