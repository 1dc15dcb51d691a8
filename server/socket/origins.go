package socket

import (
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Origins are the web pages' origins that may talk to the server, see Options.AllowedOrigins.
type Origins struct {
	allowed []string
	logger  *slog.Logger

	mu   sync.Mutex // guards seen
	seen map[string]bool
}

// Any tells whether every origin may.
func (o *Origins) Any() bool { return slices.Contains(o.allowed, "*") }

// Allowed tells whether this one may. A refusal is logged, once for each origin, with the setting that would allow it.
func (o *Origins) Allowed(origin string) bool {
	for _, allowed := range o.allowed {
		if allowed == "*" || strings.EqualFold(strings.TrimSuffix(allowed, "/"), origin) {
			return true
		}
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" && o.first(origin) {
		line := "ALLOWED_ORIGINS=" + strings.Join(append(slices.Clone(o.allowed), origin), " ")
		o.logger.Warn("origin refused; to allow it, change the setting", "origin", origin, "setting", line)
	}
	return false
}

// maxOriginsLogged and maxOriginLength bound what strangers can write into the log and make the server remember.
const (
	maxOriginsLogged = 100
	maxOriginLength  = 200
)

// first tells whether a refused origin is to be logged: each is once.
func (o *Origins) first(origin string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[origin] || len(o.seen) >= maxOriginsLogged || len(origin) > maxOriginLength {
		return false
	}
	if o.seen == nil {
		o.seen = map[string]bool{}
	}
	o.seen[origin] = true
	return true
}
