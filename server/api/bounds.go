package api

import (
	"crypto/sha256"
	"strconv"
	"sync"
	"sync/atomic"

	"rowcast/server/auth"
	"rowcast/server/bucket"
)

// budget is so much of something that all requests share, or one caller's part of it.
type budget struct {
	limit int64
	used  atomic.Int64
	whole *budget // that this is a part of; may be nil
}

// take takes n, or nothing where it is not there.
func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.limit || b.whole != nil && !b.whole.take(n) {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *budget) give(n int) {
	b.used.Add(-int64(n))
	if b.whole != nil {
		b.whole.give(n)
	}
}

// half is the most that one caller may have: others come through then, whatever it does.
func (b *budget) half() budget { return budget{limit: b.limit / 2, whole: b} }

// maxCallers is how many callers' rates are remembered before the older half is forgotten.
const maxCallers = 20000

// callers are what each caller may still do: its subject, or its role where the token names nobody. A token without a
// subject is one key for many, such as that of a web page; what else a request says, and the address it comes from, a
// stranger changes at will. So those share their bounds, and a noisy one among them is the others' loss, not everybody's.
type callers struct {
	messages, bytes int     // a second; 0: no limit
	asks, bodies    *budget // of all together

	mu            sync.Mutex // guards all below
	recent, older map[callerKey]*caller
}

// caller is what one may still send, and have at a time.
type caller struct {
	messages, bytes bucket.Bucket
	asks, bodies    budget
}

// callerKey is of one size, however long a subject is.
type callerKey [sha256.Size]byte

func keyOf(claims auth.Claims) callerKey {
	if claims.Subject != "" {
		return sha256.Sum256([]byte("sub " + claims.Subject))
	}
	return sha256.Sum256([]byte("role " + claims.Role))
}

func (r *callers) of(claims auth.Claims) *caller {
	key := keyOf(claims)
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.recent[key]
	if found != nil {
		return found
	}
	if len(r.recent) >= maxCallers/2 {
		r.older, r.recent = r.recent, map[callerKey]*caller{}
	}
	if found = r.older[key]; found == nil {
		found = &caller{bucket.New(r.messages), bucket.New(r.bytes), r.asks.half(), r.bodies.half()}
	}
	r.recent[key] = found
	return found
}

// tell says in the headers of the answer what is left.
func (r *callers) tell(c *call) {
	if r.messages == 0 {
		return
	}
	left := c.caller.messages.Left()
	h := c.w.Header()
	h.Set("X-Rate-Limit", strconv.Itoa(r.messages))
	h.Set("X-Rate-Limit-Remaining", strconv.Itoa(left))
	h.Set("X-Rate-Rolling", strconv.Itoa(r.messages-left))
}
