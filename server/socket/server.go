// Package socket is one WebSocket: handshake, read loop, a queue bounded in bytes, gathered writes, and a name for
// every close. A socket that does not keep up is closed; no other socket, and nobody who sends, waits for it.
//
// It is not responsible for what a frame means, for who the client is or what it may do (Options.Open decides that
// and returns the Handler), nor for which socket gets which frame. It never encodes: frames arrive complete, are shared
// by all their receivers and go out as they are.
package socket

import (
	"cmp"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/repeats"
)

// Options configure a Server. Of the limits, 0 means none; of the others, 0 means the default.
type Options struct {
	MaxConnections int // sockets at a time
	MaxFrameBytes  int // one message from a client; a larger one ends its socket with code 1009
	MaxQueueBytes  int // what may wait for a client behind the frame that is next to go

	WriteTimeout  time.Duration // for the client to take some more of what is being written (10 s)
	MaxQueueAge   time.Duration // for a frame that waits to be taken whole (60 s; negative: for ever)
	IdleTimeout   time.Duration // without a byte received (60 s; negative: for ever)
	UnusedTimeout time.Duration // without the handler having a use for the socket (10 min; negative: for ever)
	CloseTimeout  time.Duration // for a client to take what waits and to answer a close frame (5 s)
	SendBuffer    int           // SO_SNDBUF: what the kernel may hold for a client without our seeing it (64 KB)

	// AllowedOrigins are the web pages' origins that may connect, such as https://app.example.com; "*" means any. A
	// request without an Origin, so one that no browser made for a page, passes.
	AllowedOrigins []string

	// Open decides about a request that asks for a socket. It is called before the upgrade, so that a refusal is an
	// HTTP answer. The request must not be used after it returned.
	Open func(r *http.Request) (Opener, *Refusal)

	Logger  *slog.Logger
	Metrics *metrics.Metrics
}

// An Opener is called once, before the client is told that the socket is open: whoever is to end the sockets of its user
// finds this one from then on. It may close the socket, and send.
type Opener func(c *Conn) Handler

// A Handler receives what the client sends. Its methods are called one at a time, on one goroutine, but for InUse.
type Handler interface {
	// Frame is one whole message. Its data is valid only during the call.
	Frame(binary bool, data []byte)
	// InUse tells whether the client has anything to wait for on this socket. It may be called from any goroutine.
	InUse() bool
	// Closed is the last call, made exactly once.
	Closed(reason Reason)
}

// A Refusal is the HTTP answer to a request that gets no socket.
type Refusal struct {
	Status  int
	Message string // for the client, as {"error": Message}
	Reason  string // for log and metric: one of few words
}

const (
	defaultWriteTimeout  = 10 * time.Second
	defaultMaxQueueAge   = 60 * time.Second // 3 MB on a line of 50 KB/s
	defaultIdleTimeout   = 60 * time.Second // more than two of the clients' heartbeats, which come every 25 s
	defaultUnusedTimeout = 10 * time.Minute // as upstream: the official client goes by itself, after 50 s
	defaultCloseTimeout  = 5 * time.Second
	defaultSendBuffer    = 64 << 10 // the kernel's own choice may reach 4 MB, and hides a stalled client for minutes
)

// Server is an http.Handler that upgrades requests to WebSockets and knows the open ones.
type Server struct {
	opt     Options
	epoch   time.Time // Conn.lastRead counts from here, on the monotonic clock
	origins *Origins
	repeats repeats.Log

	stop     chan struct{} // closed by Close: ends the sweep
	stopOnce sync.Once
	sweeping sync.WaitGroup

	mu        sync.Mutex // guards what follows
	conns     map[*Conn]struct{}
	opening   int           // handshakes between admit and register
	draining  bool          // no new sockets, for ever
	suspended *Refusal      // no new sockets for a time, and why; nil: they are welcome
	gone      chan struct{} // closed when no socket is left; nil while nobody waits for that
}

// NewServer returns a server that is ready to accept. Idle sockets are noticed once Start is called.
func NewServer(opt Options) *Server {
	opt.WriteTimeout = cmp.Or(opt.WriteTimeout, defaultWriteTimeout)
	opt.MaxQueueAge = cmp.Or(opt.MaxQueueAge, defaultMaxQueueAge)
	opt.IdleTimeout = cmp.Or(opt.IdleTimeout, defaultIdleTimeout)
	opt.UnusedTimeout = cmp.Or(opt.UnusedTimeout, defaultUnusedTimeout)
	opt.CloseTimeout = cmp.Or(opt.CloseTimeout, defaultCloseTimeout)
	opt.SendBuffer = cmp.Or(opt.SendBuffer, defaultSendBuffer)
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Metrics == nil {
		opt.Metrics = metrics.New()
	}
	return &Server{
		opt: opt, epoch: time.Now(), origins: &Origins{allowed: opt.AllowedOrigins, logger: opt.Logger},
		stop: make(chan struct{}), conns: map[*Conn]struct{}{},
	}
}

// Origins are those of Options.AllowedOrigins, for other addresses of the same server.
func (s *Server) Origins() *Origins { return s.origins }

// Count is the number of open sockets.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// now is the time since the server began, in nanoseconds.
func (s *Server) now() int64 { return int64(time.Since(s.epoch)) }

// Away says why no sockets are accepted at the moment; nil: they are, as far as the limit allows.
func (s *Server) Away() *Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.awayLocked()
}

func (s *Server) awayLocked() *Refusal {
	if s.draining {
		return &Refusal{http.StatusServiceUnavailable, "Server is restarting", RefusedDraining}
	}
	return s.suspended
}

// admit takes a place for a handshake, so that many at a time cannot exceed MaxConnections together.
func (s *Server) admit() *Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if away := s.awayLocked(); away != nil {
		return away
	}
	if limit := s.opt.MaxConnections; limit > 0 && len(s.conns)+s.opening >= limit {
		return &Refusal{http.StatusTooManyRequests, "Too many connected users", RefusedFull}
	}
	s.opening++
	return nil
}

// release gives the place of a handshake back that led to no socket.
func (s *Server) release() {
	s.mu.Lock()
	s.opening--
	s.signalLocked()
	s.mu.Unlock()
}

// register turns the place of a handshake into a socket. One whose handshake overlapped the beginning of a drain or a
// suspension is told to leave at once.
func (s *Server) register(c *Conn) {
	s.mu.Lock()
	s.opening--
	s.conns[c] = struct{}{}
	leave := s.draining || s.suspended != nil
	s.mu.Unlock()
	s.opt.Metrics.Sockets.Inc()
	if leave {
		c.Close(codeRestart, Restarting)
	}
}

// closed counts and logs the end of a socket.
func (s *Server) closed(c *Conn, reason Reason) {
	s.opt.Metrics.SocketsClosed.WithLabelValues(string(reason)).Inc()
	s.opt.Logger.Debug("socket closed", "socket_id", c.ID(), "remote_addr", c.RemoteAddr(), "reason", string(reason))
}

// remove forgets a socket of which nothing is left.
func (s *Server) remove(c *Conn) {
	s.opt.Metrics.Sockets.Dec()
	s.mu.Lock()
	delete(s.conns, c)
	s.signalLocked()
	s.mu.Unlock()
}

func (s *Server) signalLocked() {
	if s.gone != nil && len(s.conns)+s.opening == 0 {
		close(s.gone)
		s.gone = nil
	}
}

// empty returns a channel that is closed when no socket is left.
func (s *Server) empty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == nil {
		s.gone = make(chan struct{})
	}
	gone := s.gone
	s.signalLocked()
	return gone
}

// All lists the open sockets.
func (s *Server) All() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}
