package api

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"rowcast/server/auth"
	"rowcast/server/decisions"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// RESTOptions of a REST. Of the limits, 0 means none.
type RESTOptions struct {
	Verifier    *auth.Verifier
	Decider     *auth.Decider
	Decisions   *decisions.Recorder // nil: none is kept
	Hub         *hub.Hub
	WhenHearing func(then func()) (cancel func()) // calls then once the database is heard
	Away        func() (why string)               // why this server serves nobody at the moment; "" if it does
	Origins     Origins
	Presence    func(hub.Room) []byte // the payload of presence_state

	PrivateOnly       bool
	MaxBodyBytes      int
	MaxPayloadBytes   int
	MessagesPerSecond int // from one caller
	BytesPerSecond    int // of bodies from one caller, and of what it is told about presence

	Logger  *slog.Logger
	Metrics *metrics.Metrics
}

// Origins says which web pages' origins may call.
type Origins interface {
	Any() bool
	Allowed(origin string) bool
}

// REST is what clients may ask for without a socket: to broadcast, and who is present.
type REST struct {
	RESTOptions
	callers *callers
	lines   *rate.Limiter // of the log, about policies that fail and a database that is away
}

const (
	// maxBodies bounds all bodies in memory together, half of them one caller's: connections are not counted, and each may
	// hold MaxBodyBytes.
	maxBodies = 256 << 20
	// maxAsks bounds the decisions that requests wait for, half of them one caller's: there are more only where policies are
	// slow, and a longer queue would answer nobody in time.
	maxAsks = 2000
	// answerTime is for what comes after the body, however long that took: the answer of the policies, room in the hub's
	// log, and a client that reads slowly.
	answerTime = 20 * time.Second
	// linesPerSecond bounds what callers can write into the log, beside the level debug.
	linesPerSecond = 50
)

// NewREST prepares the endpoints.
func NewREST(o RESTOptions) *REST {
	return &REST{
		RESTOptions: o, lines: rate.NewLimiter(linesPerSecond, linesPerSecond),
		callers: &callers{
			messages: o.MessagesPerSecond, bytes: o.BytesPerSecond, recent: map[callerKey]*caller{},
			asks: &budget{limit: maxAsks}, bodies: &budget{limit: maxBodies},
		},
	}
}

// answer is what a request gets. A refusal has a code.
type answer struct {
	status int
	body   []byte // JSON, or empty
	code   protocol.Code
	sends  int    // messages that were refused
	reason string // for the log alone, in Postgres' words
}

// call is a request on its way to its answer.
type call struct {
	*http.Request
	w      http.ResponseWriter
	claims auth.Claims
	caller *caller
	held   int // of the caller's bodies
}

// hold takes room for so much of a body, until the request is answered.
func (c *call) hold(n int) bool {
	if !c.caller.bodies.take(n) {
		return false
	}
	c.held += n
	return true
}

// letGo gives the room back.
func (c *call) letGo() {
	if c.caller != nil {
		c.caller.bodies.give(c.held)
	}
}

// mount puts the endpoints on a mux, with and without the prefix that a gateway would take away.
func (s *REST) mount(mux *http.ServeMux) {
	for _, prefix := range []string{"", "/realtime/v1"} {
		mux.Handle(prefix+"/api/ping", s.endpoint("ping", http.MethodGet, s.ping))
		mux.Handle(prefix+"/api/broadcast", s.endpoint("broadcast", http.MethodPost, s.admitted(s.batch)))
		mux.Handle(prefix+"/api/broadcast/{topic}/events/{event}", s.endpoint("broadcast_single", http.MethodPost, s.admitted(s.single)))
		mux.Handle(prefix+"/api/presence/{topic}", s.endpoint("presence", http.MethodGet, s.admitted(s.presence)))
	}
}

func (s *REST) ping(*call) answer {
	return answer{status: http.StatusOK, body: message("Success")}
}

// endpoint is one address: what all have in common around what it does.
func (s *REST) endpoint(route, method string, do func(*call) answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := requestID(r)
		w.Header().Set("X-Request-Id", id)
		c := &call{Request: r, w: w}
		defer c.letGo()
		a, preflight := s.cors(c, method)
		switch {
		case preflight || a.code != "":
		case r.Method != method:
			w.Header().Set("Allow", method+", OPTIONS")
			a = refuse(http.StatusMethodNotAllowed, protocol.MethodNotAllowed)
		default:
			a = do(c)
		}
		s.Metrics.RESTRequests.WithLabelValues(route, strconv.Itoa(a.status)).Inc()
		if a.code != "" {
			s.Metrics.RESTRefused.WithLabelValues(string(a.code)).Inc()
			s.Metrics.SendsRefused.WithLabelValues(string(a.code)).Add(float64(a.sends))
			w.Header().Set("X-Error-Code", string(a.code))
			s.log(c, route, id, a)
		}
		if len(a.body) > 0 {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
		}
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body) // whoever is gone needs no answer
	})
}

// log tells operators of a refusal. What is not the caller's doing they see without asking, as far as there are not too many:
// the metrics count every one.
func (s *REST) log(c *call, route, id string, a answer) {
	level := slog.LevelDebug
	if a.reason != "" && s.lines.Allow() {
		level = slog.LevelInfo
	}
	s.Logger.Log(c.Context(), level, "request refused", "route", route, "status", a.status, "code", string(a.code), "reason", a.reason,
		"request_id", id, "sub", c.claims.Subject, "role", c.claims.Role, "remote_addr", c.RemoteAddr)
}

// admitted lets requests pass that come from somebody, to a server that serves.
func (s *REST) admitted(do func(*call) answer) func(*call) answer {
	return func(c *call) answer {
		if why := s.Away(); why != "" {
			return away(why)
		}
		var a answer
		if c.claims, a = s.identify(c.Request); a.code != "" {
			if a.status == http.StatusUnauthorized {
				c.w.Header().Set("WWW-Authenticate", "Bearer")
			}
			return a
		}
		c.caller = s.callers.of(c.claims)
		defer s.callers.tell(c)
		if !c.caller.messages.Take(1) {
			return tooMany(c, protocol.TextRateLimit, 1)
		}
		return do(c)
	}
}

// identify says who sent a request. A header Authorization that is there and not empty, which some clients send without a
// session, is the only one that counts.
func (s *REST) identify(r *http.Request) (auth.Claims, answer) {
	token := r.Header.Get("apikey")
	if values := r.Header.Values("Authorization"); strings.TrimSpace(strings.Join(values, "")) != "" {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
		if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
			return auth.Claims{}, unauthorized(protocol.MalformedJWT)
		}
		token = rest
	}
	if token = strings.TrimSpace(token); token == "" {
		return auth.Claims{}, unauthorized(protocol.MissingAPIKey)
	}
	claims, refused := s.Verifier.Verify(token)
	switch {
	case refused == nil:
		return claims, answer{}
	case refused.Passes():
		return auth.Claims{}, answer{status: http.StatusServiceUnavailable, body: message(refused.Text), code: refused.Code}
	}
	return auth.Claims{}, unauthorized(refused.Code)
}

func unauthorized(code protocol.Code) answer {
	return answer{status: http.StatusUnauthorized, body: message(protocol.TextRefused), code: code}
}

// maxRequestID bounds what a client has us repeat and log.
const maxRequestID = 200

// requestID is the client's own, if it is a word, or a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	sane := id != "" && len(id) <= maxRequestID
	for _, c := range []byte(id) {
		sane = sane && '!' <= c && c <= '~'
	}
	if sane {
		return id
	}
	return rand.Text()
}
