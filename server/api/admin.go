package api

import (
	"iter"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rowcast/server/metrics"
)

// AdminOptions are what Admin shows.
type AdminOptions struct {
	Health   *Health
	Metrics  *metrics.Metrics
	Sessions func() iter.Seq[Session] // the private channels of this moment
	Explain  Explain
}

// Admin is what only the operator may reach: health, metrics, profiles, and what people may do and why.
func Admin(o AdminOptions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", o.Health.Live)
	mux.HandleFunc("GET /readyz", o.Health.Ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /sessions", forOperators(listSessions(o.Sessions)))
	mux.HandleFunc("POST /api/explain", forOperators(answerQuestions(o.Explain)))
	// The command line is among them, and a password may stand on it.
	mux.HandleFunc("GET /debug/pprof/", forOperators(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/cmdline", forOperators(pprof.Cmdline))
	mux.HandleFunc("GET /debug/pprof/profile", forOperators(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", forOperators(pprof.Symbol))
	mux.HandleFunc("GET /debug/pprof/trace", forOperators(pprof.Trace))
	return mux
}

// Public is what clients reach: the socket under both its names, REST, and health.
func Public(h *Health, socket http.Handler, rest *REST) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", h.Live)
	mux.HandleFunc("GET /readyz", h.ReadyPublic)
	mux.Handle("/realtime/v1/websocket", socket)
	mux.Handle("/socket/websocket", socket)
	rest.mount(mux)
	return mux
}
