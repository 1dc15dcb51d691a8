package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"rowcast/server/api"
	"rowcast/server/auth"
	"rowcast/server/changes"
	"rowcast/server/channel"
	"rowcast/server/decisions"
	"rowcast/server/explain"
	"rowcast/server/feed"
	"rowcast/server/hub"
	"rowcast/server/jwks"
	"rowcast/server/messages"
	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/presence"
	"rowcast/server/rights"
	"rowcast/server/snapshot"
	"rowcast/server/socket"
	"rowcast/server/wal"
)

const (
	// heartbeats are sent so many times within DEAF_AFTER: some may come late, or be lost with a connection of the pool.
	heartbeats = 5
	// headerTimeout ends a client that sends its request a byte at a time.
	headerTimeout = 10 * time.Second
	// requestTimeout ends one that sends a body, or takes an answer, a byte at a time. A socket is free of it once it is
	// open.
	requestTimeout = 30 * time.Second
	// maxHint is twice what NOTIFY takes. In the WAL anybody may say a gigabyte.
	maxHint = 16 << 10
	// drainTime is how long clients are given to go; orchestrators kill after 30 s.
	drainTime = 20 * time.Second
	// drainPerSocket spreads reconnects: a thousand sockets a second.
	drainPerSocket = time.Millisecond
)

// instance is one running server: what serve and dev start, and tests as well.
type instance struct {
	config  Config
	logger  *slog.Logger
	metrics *metrics.Metrics

	pool     *postgres.Pool
	hub      *hub.Hub
	presence *presence.Registry
	feed     *feed.Feed
	decider  *auth.Decider
	rights   *rights.Watcher // nil: what policies depend on is not looked for
	changes  *changes.Engine
	recorder *decisions.Recorder // nil: no decision log is kept
	sockets  *socket.Server
	lease    *lease
	sync     *syncer
	house    *housekeeper
	health   *api.Health
	rest     *api.REST
	keys     *jwks.Fetcher // nil: none are fetched

	public, admin net.Listener
}

// newInstance joins the packages and opens the addresses. Nothing runs yet.
func newInstance(ctx context.Context, c Config, logger *slog.Logger) (*instance, error) {
	return newInstanceVia(ctx, c, logger, seams{
		sink:   func(s feed.Sink) feed.Sink { return s },
		rights: func(r auth.Rights) auth.Rights { return r },
	})
}

// seams are where tests stand between two parts.
type seams struct {
	sink   func(feed.Sink) feed.Sink     // what the feed tells the hub
	rights func(auth.Rights) auth.Rights // what the decider is told of its verdicts
	feed   func(*feed.Options)           // nil: they stay as they are
}

func newInstanceVia(ctx context.Context, c Config, logger *slog.Logger, via seams) (*instance, error) {
	in := &instance{config: c, logger: logger, metrics: metrics.New()}
	in.metrics.Build.WithLabelValues(buildVersion()).Set(1)
	verifier, err := in.newVerifier()
	if err != nil {
		return nil, err
	}
	if in.pool, err = postgres.Open(ctx, c.DatabaseURL, int32(c.PoolSize)); err != nil {
		return nil, err
	}
	in.metrics.WatchPool(in.pool.Stats)
	in.lease = newLease(c.AllowSecondNode, in.pool, in.component("lease"), in.metrics)
	in.lease.serve, in.lease.stop = in.open, in.leave
	in.sync = &syncer{node: in.lease.id, pool: in.pool, logger: in.component("sync"), metrics: in.metrics, wake: make(chan struct{}, 1)}
	rooms := c.hubOptions()
	rooms.Metrics, rooms.Hears = in.metrics, func() bool { return in.feed.Hearing() }
	in.hub = hub.New(rooms)
	in.presence = presence.NewRegistry(presence.Options{Hub: in.hub, MaxBytes: c.MaxPresenceStateBytes, Metrics: in.metrics})
	in.recorder = decisions.New(decisions.Options{
		Log: c.DecisionLog == "log" || c.DecisionLog == "both", SQL: c.recordsDecisions(),
		Pool: in.pool, Node: in.lease.id, Logger: in.component("decisions"), Metrics: in.metrics,
	})
	in.changes = changes.New(in.changesOptions())
	in.lease.wrote = in.changes.Wrote
	sessions := &channel.Options{
		Hub: in.hub, Presence: in.presence, Decisions: in.recorder, Changes: in.changes, Replayer: messages.NewReplayer(messages.ReplayOptions{
			Pool: in.pool, Reads: c.PoolSize / 5, MaxMessages: c.MaxReplayMessages, MaxPayload: c.MaxPayloadBytes, MaxQueue: c.MaxQueueBytes,
			Logger: in.component("replay"), Metrics: in.metrics,
		}), Verifier: verifier, PrivateOnly: c.PrivateOnly,
		Limits: channel.Limits{
			Channels: c.MaxChannelsPerSocket, JoinsPerSecond: c.MaxJoinsPerSecond, EventsPerSecond: c.MaxEventsPerSecond,
			BytesPerSecond: c.MaxBytesPerSecond, PresenceEventsPerSecond: c.MaxPresenceEventsPerSecond,
			PayloadBytes: c.MaxPayloadBytes, WaitingBytes: c.MaxQueueBytes,
		},
		Logger: in.component("channel"), Metrics: in.metrics,
	}
	hearing := feed.Options{
		Pool: in.pool, ListenURL: c.ListenDatabaseURL, MaxPayload: c.MaxPayloadBytes,
		DeafAfter: c.DeafAfter, Heartbeat: c.DeafAfter / heartbeats,
		Sink: via.sink(messages.Delivery{Hub: in.hub, Users: sessions, Logger: in.component("messages"), Metrics: in.metrics}),
		Node: in.lease.id, Awaited: in.sync.awaited, Beaten: in.changes.Beat, Stream: in.stream(),
		Logger: in.component("feed"), Metrics: in.metrics,
	}
	if via.feed != nil {
		via.feed(&hearing)
	}
	in.feed = feed.New(hearing)
	in.sync.reach, in.sync.barrier = in.feed.Reach, in.hub.Barrier
	decisionMaking := auth.DeciderOptions{
		Pool: in.pool, Feed: in.feed, BypassRoles: c.BypassRoles, Logger: in.component("auth"), Metrics: in.metrics,
	}
	if c.Watch != "off" {
		in.rights = rights.New(in.rightsOptions())
		in.sync.before = in.rights.Apply
		decisionMaking.Rights = via.rights(in.rights)
	}
	in.decider = auth.NewDecider(decisionMaking)
	sessions.Decider, sessions.WhenHearing = in.decider, in.feed.WhenHearing
	sockets := c.socketOptions()
	sockets.Open, sockets.Logger, sockets.Metrics = opener{verifier, sessions}.open, in.component("socket"), in.metrics
	in.sockets = socket.NewServer(sockets)
	in.rest = api.NewREST(api.RESTOptions{
		Verifier: verifier, Decider: in.decider, Decisions: in.recorder, Hub: in.hub, WhenHearing: in.feed.WhenHearing, Away: in.away, Origins: in.sockets.Origins(),
		Presence: in.presence.State, PrivateOnly: c.PrivateOnly, MaxBodyBytes: c.MaxRESTBodyBytes, MaxPayloadBytes: c.MaxPayloadBytes,
		MessagesPerSecond: c.MaxRESTMessages, BytesPerSecond: c.MaxRESTBytes, Logger: in.component("api"), Metrics: in.metrics,
	})
	in.house = newHousekeeper(c, in.pool, in.lease.holds, in.component("housekeeping"))
	in.health = &api.Health{Checks: []api.Check{
		{Name: "database", Ask: in.house.ready},
		{Name: "lease", Ask: in.lease.ready},
		{Name: "feed", Ask: in.hears},
	}}
	if c.FeedSource == "wal" {
		in.health.Checks = append(in.health.Checks, api.Check{Name: "wal", Ask: func(context.Context) error { return in.feed.ByWAL() }})
	}
	if in.keys != nil && c.JWTSecret == "" && c.JWTJWKS == "" { // else some tokens are good without it
		in.health.Checks = append(in.health.Checks, api.Check{Name: "keys", Ask: in.keys.Ready})
	}
	if in.public, err = net.Listen("tcp", c.Addr); err != nil {
		in.release()
		return nil, fmt.Errorf("listen on ADDR: %w", err)
	}
	if in.admin, err = net.Listen("tcp", c.AdminAddr); err != nil {
		in.public.Close()
		in.release()
		return nil, fmt.Errorf("listen on ADMIN_ADDR: %w", err)
	}
	in.lease.name = nodeName(in.public.Addr())
	in.leave(ctx, *refusedWaiting) // no socket before the lease
	return in, nil
}

// newVerifier makes the verifier of tokens, and what fetches its keys.
func (in *instance) newVerifier() (*auth.Verifier, error) {
	o := in.config.verifierOptions()
	if o.Keys != nil {
		for _, note := range o.Keys.Notes {
			in.logger.Warn("key set", "setting", "JWT_JWKS", "note", note)
		}
	}
	if len(in.config.JWTJWKSURLs) > 0 {
		in.keys = in.config.fetchedKeys(nil, in.component("jwks"), in.metrics)
		in.metrics.WatchKeys(in.keys.Age)
		o.Source = in.keys
	}
	return auth.NewVerifier(o)
}

// recordsDecisions tells whether rows of realtime.decisions are written.
func (c Config) recordsDecisions() bool { return c.DecisionLog == "sql" || c.DecisionLog == "both" }

// rightsOptions is how it is found out what policies depend on, and what follows from it.
func (in *instance) rightsOptions() rights.Options {
	return rights.Options{
		Pool: in.pool, Install: in.config.Watch == "auto", PollEvery: in.config.RightsPollInterval, RecheckEvery: in.config.RecheckInterval,
		Active:      func() bool { return in.lease.holds() && in.house.prepared.Load() },
		Publication: in.config.Publication, Published: in.changes.Publications,
		Changed: func(seen snapshot.Snapshot) { in.hub.Mark(hub.Mark{Seen: seen}) }, Recheck: in.hub.Recheck,
		Logger: in.component("rights"), Metrics: in.metrics,
	}
}

// hubOptions is what the settings say about rooms.
func (c Config) hubOptions() hub.Options {
	held := c.MaxQueueBytes - c.MaxQueueBytes/4 // beside what is let go at once, a page of replay fits into a connection's queue
	return hub.Options{MaxHeldBytes: held, MaxDeaf: orNever(c.MaxDeaf)}
}

// socketOptions is what the settings say about sockets.
func (c Config) socketOptions() socket.Options {
	return socket.Options{
		MaxConnections: c.MaxConnections, MaxFrameBytes: c.MaxFrameBytes, MaxQueueBytes: c.MaxQueueBytes, MaxQueueAge: orNever(c.MaxQueueAge),
		IdleTimeout: orNever(c.IdleTimeout), UnusedTimeout: orNever(c.NoChannelTimeout), AllowedOrigins: c.AllowedOrigins,
	}
}

// orNever is a limit as packages want it: 0, which lifts it, would mean their default.
func orNever(limit time.Duration) time.Duration {
	if limit == 0 {
		return -1
	}
	return limit
}

// stream is how the feed hears the WAL; nil: it does not.
func (in *instance) stream() feed.Stream {
	if in.config.FeedSource == "notify" {
		return nil
	}
	logger := in.component("feed")
	return func(ctx context.Context, to wal.Handler, ready func()) error {
		return wal.Stream(ctx, wal.Options{
			Name: "feed", URL: in.config.ListenDatabaseURL, Slot: "rowcast_feed_" + strings.ToLower(rand.Text()), Publication: "realtime_feed", MaxRow: maxHint,
			Logger: logger, Metrics: in.metrics,
		}, to, func(wal.LSN) { ready() })
	}
}

func (in *instance) component(name string) *slog.Logger { return in.logger.With("component", name) }

func (in *instance) hears(context.Context) error {
	if !in.feed.Hearing() {
		return errors.New("the server cannot prove that it hears the database: private channels pause")
	}
	return nil
}

// ready is the first thing that keeps the server from being ready.
func (in *instance) ready(ctx context.Context) error {
	for _, c := range in.health.Checks {
		if err := c.Ask(ctx); err != nil {
			return err
		}
	}
	return nil
}

// run serves until ctx ends, and then lets clients go in order.
func (in *instance) run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx)) // the database is needed until the last client is gone
	defer stop()
	public := in.publicServer()
	admin := in.httpServer(api.Admin(api.AdminOptions{Health: in.health, Metrics: in.metrics, Sessions: in.sessions, Explain: in.explain}))
	in.sockets.Start()

	leasing, endLease := context.WithCancel(work)
	defer endLease()

	failed := make(chan error, 4)
	var group sync.WaitGroup
	group.Go(func() { in.lease.run(leasing) })
	group.Go(func() { in.decider.Run(work) })
	group.Go(func() { in.house.run(work) })
	group.Go(func() { in.recorder.Run(work) })
	group.Go(func() { in.sync.run(work) })
	if in.rights != nil {
		group.Go(func() { in.rights.Run(work) })
	} else {
		group.Go(func() { in.watchPublication(work) })
	}
	if in.config.ChangesSlot != "" {
		group.Go(func() { in.keptSlot().run(work) })
	}
	if in.keys != nil {
		group.Go(func() { in.keys.Run(work) })
	}
	group.Go(func() { failed <- in.feed.Run(work) })
	group.Go(func() { failed <- in.changes.Run(work) })
	group.Go(func() { failed <- public.Serve(in.public) })
	group.Go(func() { failed <- admin.Serve(in.admin) })
	in.logger.Info("listening", "addr", in.public.Addr().String(), "admin_addr", in.admin.Addr().String(),
		"version", buildVersion(), "limits_lifted", in.config.liftedLimits())

	var err error
	select {
	case <-ctx.Done():
		in.logger.Info("stopping", "sockets", in.sockets.Count())
	case err = <-failed:
	}
	in.drain(public, endLease)
	stop()
	admin.Close()
	public.Close()
	group.Wait()
	in.release()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// open lets clients in: this server has the lease.
func (in *instance) open() {
	in.house.hurry()
	in.feed.Hurry() // the one before may have heard by the WAL
	in.sockets.Resume()
}

// leave lets no clients in, and asks those that are here to go elsewhere.
func (in *instance) leave(ctx context.Context, why socket.Refusal) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if err := in.sockets.Suspend(ctx, why, lastWord, in.spread()); err != nil {
		in.logger.Warn("sockets not told to go", "err", err)
	}
}

// away says why clients are not served at the moment: over REST the same as on sockets, as nobody would hear what is sent.
func (in *instance) away() string {
	if refusal := in.sockets.Away(); refusal != nil {
		return refusal.Message
	}
	return ""
}

// drain asks every client to go elsewhere. Once all are told, and nobody is heard here any more, another server may serve.
func (in *instance) drain(public *http.Server, endLease func()) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	err := in.sockets.Drain(ctx, lastWord, in.spread())
	endLease()
	if err := errors.Join(err, in.sockets.Gone(ctx)); err != nil {
		in.logger.Warn("sockets dropped", "err", err)
	}
	_ = public.Shutdown(ctx) // what is left is closed next
}

// spread is the time over which clients are asked to go.
func (in *instance) spread() time.Duration {
	return min(drainTime/2, time.Duration(in.sockets.Count())*drainPerSocket)
}

// lastWord goes out before a socket is closed.
func lastWord(c *socket.Conn) {
	if h, ok := c.Handler().(sessionHandler); ok {
		h.Drain()
	}
}

func (in *instance) release() {
	if in.sockets != nil {
		in.sockets.Close()
	}
	in.hub.Close()
	in.pool.Close()
}

// publicServer is for strangers: none may hold on to it with a request that does not end.
func (in *instance) publicServer() *http.Server {
	s := in.httpServer(api.Public(in.health, in.sockets, in.rest))
	s.ReadTimeout, s.WriteTimeout = requestTimeout, requestTimeout
	return s
}

// explain is for operators alone.
func (in *instance) explain(ctx context.Context, q explain.Question) (explain.Report, error) {
	return explain.Ask(ctx, in.pool, q)
}

func (in *instance) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: in.config.MaxHeaderBytes,
		ErrorLog: slog.NewLogLogger(in.component("http").Handler(), slog.LevelDebug),
	}
}
