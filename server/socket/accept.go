package socket

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"syscall"

	"github.com/coder/websocket"
)

// ServeHTTP answers a handshake: limits first, then the page's origin, then Options.Open, and only then the upgrade.
// It returns after the upgrade, so that the request and the HTTP server's buffers can be freed.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if problem := checkUpgrade(r); problem != "" {
		s.opt.Metrics.SocketsRefused.WithLabelValues(RefusedHandshake).Inc()
		w.Header().Set("Sec-WebSocket-Version", "13")
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		http.Error(w, problem, http.StatusBadRequest)
		return
	}
	if refusal := s.admit(); refusal != nil {
		s.refuse(w, r, refusal)
		return
	}
	admitted := true
	defer func() { // also when Open panics
		if admitted {
			s.release()
		}
	}()
	if origin := r.Header.Get("Origin"); origin != "" && !s.origins.Allowed(origin) {
		s.refuse(w, r, &Refusal{http.StatusForbidden, "Origin not allowed", RefusedOrigin})
		return
	}
	open, refusal := s.opt.Open(r)
	if refusal != nil {
		s.refuse(w, r, refusal)
		return
	}
	c := newConn(s, r.RemoteAddr)
	h, broken := c.begin(open)
	var err error
	c.ws, err = websocket.Accept(&hijacker{w, c}, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the origin was looked at above
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil { // answered by Accept
		s.opt.Metrics.SocketsRefused.WithLabelValues(RefusedUpgrade).Inc()
		s.repeats.Say(s.opt.Logger, slog.LevelWarn, err.Error(), "upgrade socket", "remote_addr", r.RemoteAddr, "error", err)
		c.finish(h, c.settle(ClientGone))
		return
	}
	limit := int64(-1)
	if s.opt.MaxFrameBytes > 0 {
		limit = int64(s.opt.MaxFrameBytes)
	}
	c.ws.SetReadLimit(limit)
	s.tune(c.tap.Conn)
	if plain, ok := c.tap.Conn.(syscall.Conn); ok {
		c.raw, _ = plain.SyscallConn() // without it, a goroutine writes
	}
	admitted = false
	s.register(c)
	c.opened()
	go c.run(h, broken)
}

// checkUpgrade returns what is wrong with a request as a WebSocket handshake (RFC 6455, section 4.2.1), or "".
func checkUpgrade(r *http.Request) string {
	switch key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key"))); {
	case r.Method != http.MethodGet:
		return "a WebSocket handshake is a GET request"
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return "a WebSocket handshake needs HTTP/1.1"
	case r.ContentLength != 0: // bytes that one end takes for a body and the other for frames
		return "a WebSocket handshake has no body"
	case !hasToken(r.Header, "Connection", "upgrade"):
		return "this address serves WebSockets: the header 'Connection: Upgrade' is missing"
	case !hasToken(r.Header, "Upgrade", "websocket"):
		return "this address serves WebSockets: the header 'Upgrade: websocket' is missing"
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return "the header 'Sec-WebSocket-Version' must be 13"
	case err != nil || len(key) != 16 || len(r.Header.Values("Sec-WebSocket-Key")) != 1:
		return "the header 'Sec-WebSocket-Key' must be 16 bytes in base64, once"
	}
	return ""
}

func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for _, t := range strings.Split(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// refuse answers a handshake with an HTTP error.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, refusal *Refusal) {
	s.opt.Metrics.SocketsRefused.WithLabelValues(refusal.Reason).Inc()
	s.opt.Logger.Debug("socket refused", "remote_addr", r.RemoteAddr, "status", refusal.Status, "reason", refusal.Reason)
	body, _ := json.Marshal(struct { // a string always encodes
		Error string `json:"error"`
	}{refusal.Message})
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(refusal.Status)
	w.Write(body)
}
