package api

import (
	"net/http"
	"strings"

	"rowcast/server/protocol"
)

const (
	// corsHeaders is what the official clients send.
	corsHeaders = "authorization, x-client-info, apikey, content-type, x-api-version"
	// corsExposed is what pages may read of an answer beside its body.
	corsExposed = "x-request-id, x-error-code, x-rate-limit, x-rate-limit-remaining, x-rate-rolling, retry-after"
	// corsMaxAge is how long a browser may go on without asking again, in seconds. It bounds how long a change of
	// ALLOWED_ORIGINS takes.
	corsMaxAge = "3600"
	// maxCORSHeaders bounds what a page has us repeat.
	maxCORSHeaders = 1024
)

// cors tells the browser whether a page may call, and answers its preflight. Tokens are explicit, and there is no other
// credential: which headers a page adds decides nothing, so that it may send any (policies can read them).
func (s *REST) cors(c *call, method string) (a answer, preflight bool) {
	h := c.w.Header()
	origin := c.Header.Get("Origin")
	if !s.Origins.Any() {
		h.Add("Vary", "Origin")
	}
	if origin != "" {
		if !s.Origins.Allowed(origin) {
			return refuse(http.StatusForbidden, protocol.OriginNotAllowed), false
		}
		if s.Origins.Any() {
			origin = "*"
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", corsExposed)
	}
	if c.Method != http.MethodOptions {
		return answer{}, false
	}
	h.Set("Allow", method+", OPTIONS")
	h.Set("Access-Control-Allow-Methods", method+", OPTIONS")
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", corsMaxAge)
	h.Add("Vary", "Access-Control-Request-Headers")
	if asked := strings.Join(c.Header.Values("Access-Control-Request-Headers"), ", "); asked != "" && len(asked) <= maxCORSHeaders {
		h.Set("Access-Control-Allow-Headers", corsHeaders+", "+asked)
	}
	return answer{status: http.StatusNoContent}, true
}
