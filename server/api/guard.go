package api

import (
	"net"
	"net/http"
	"net/netip"
)

// forOperators lets only requests pass that a program on this machine has made. From another machine, anybody could say that
// he asks for localhost; and a web page could reach the address through its reader's browser: under a name of its own that it
// has point here, or without being told the answer.
func forOperators(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.RemoteAddr) || !isLoopback(r.Host) || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Mode") != "" {
			http.Error(w, "only for programs on the server's own machine (or in its container), by the address 127.0.0.1, [::1] or localhost", http.StatusForbidden)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next(w, r)
	}
}

// isLoopback tells whether a host, with or without a port, is this machine by a name that nobody can give to another.
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
