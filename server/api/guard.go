package api

import (
	"net"
	"net/http"
	"net/netip"
)

// forOperators lets only requests pass that were made to this machine by a program. A web page could otherwise reach the
// address through its reader's browser: under a name of its own that it has point here, or without being told the answer.
func forOperators(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Mode") != "" {
			http.Error(w, "only for programs on this machine, by the address 127.0.0.1, [::1] or localhost", http.StatusForbidden)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next(w, r)
	}
}

// isLoopback tells whether a request's host is a name of this machine that nobody else can give to another.
func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}
