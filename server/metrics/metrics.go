// Package metrics names every figure the server exports, in one place.
//
// It is not responsible for serving them, nor for deciding when something is counted: each package counts what it
// decides. The label values of a "reason" are the Go constants of the package that gives the reason, so that a log
// line, a close and a metric say the same word.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics holds the metric objects of one server. Nothing is global, so that tests can run servers side by side.
type Metrics struct {
	Registry *prometheus.Registry

	Sockets        prometheus.Gauge       // open WebSocket connections
	SocketsRefused *prometheus.CounterVec // handshakes answered with an HTTP error, by reason
	SocketsClosed  *prometheus.CounterVec // closed sockets, by reason
	FramesIn       *prometheus.CounterVec // frames read, by wire version
	FramesBad      *prometheus.CounterVec // frames that could not be read, by reason
	BytesOut       prometheus.Counter     // bytes handed to the kernel
	WritesOut      prometheus.Counter     // write calls that carried them

	Channels        *prometheus.GaugeVec   // joined channels, by kind (public, private)
	Joins           *prometheus.CounterVec // joins answered, by code
	ChannelsClosed  *prometheus.CounterVec // channels the server ended, by code
	Broadcasts      *prometheus.CounterVec // broadcasts accepted, by origin (socket, rest, database)
	SendsRefused    *prometheus.CounterVec // sends answered with an error, by code
	Deliveries      prometheus.Counter     // frames handed to a socket's queue, one per receiver
	Withheld        *prometheus.CounterVec // frames not given to a receiver, by reason
	RESTRequests    *prometheus.CounterVec // requests over REST answered, by route and status
	RESTRefused     *prometheus.CounterVec // requests over REST refused, by code
	Replayed        prometheus.Counter     // messages of the past read for a receiver
	ReplayGaps      *prometheus.CounterVec // times that a receiver was told that something is missing, by reason
	MessagesDropped *prometheus.CounterVec // database messages not delivered to anyone, by reason

	PresenceTracked prometheus.Gauge       // members that are present
	PresenceEvents  *prometheus.CounterVec // what changed who is present, by event (track, untrack, revoked)
	PresenceDiffs   prometheus.Counter     // presence_diff frames for a room
	PresenceStates  prometheus.Counter     // presence_state frames, one per receiver

	Decisions           *prometheus.CounterVec // decisions by verdict (allowed, denied, error)
	DecisionSeconds     prometheus.Histogram   // one decision round trip, a batch counted once
	DecisionBatch       prometheus.Histogram   // requests in one round trip
	DecisionsLost       prometheus.Counter     // entries that the decision log lacks
	Marks               *prometheus.CounterVec // invalidations heard, by aim (subject, topic, both, all)
	MarkedSubscriptions prometheus.Counter     // subscriptions put on hold by a mark
	RevokeSeconds       prometheus.Histogram   // mark heard to channel cut

	DecisionsVoid prometheus.Counter     // decisions that were made again because what policies depend on had changed
	Dependencies  *prometheus.GaugeVec   // what policies depend on, by how a change is noticed (trigger, digest, timer, nothing)
	Opaque        prometheus.Gauge       // of these, what may depend on more than can be found out
	Discoveries   *prometheus.CounterVec // times that this was found out, by result (ok, error)
	DigestChanges prometheus.Counter     // changes of definitions and privileges that had everybody decided again
	Rechecks      prometheus.Counter     // subscriptions decided again by the timer

	FeedHearing          prometheus.Gauge         // 1 while the feed is proven to hear, else 0
	FeedReconnects       prometheus.Counter       // times the listener was set up again
	FeedHeard            *prometheus.CounterVec   // hints heard, by kind and source
	FeedSource           *prometheus.GaugeVec     // 1 for the source by which messages are heard
	FeedSwitches         *prometheus.CounterVec   // times that it became another one, by reason
	FeedAlarms           prometheus.Counter       // marks told ahead of their place in the WAL
	FeedIgnored          *prometheus.CounterVec   // notifications that meant nothing, by reason (forged, foreign, malformed)
	FeedCaughtUp         *prometheus.CounterVec   // what was said while nobody listened and told afterwards, by kind
	FeedMissed           *prometheus.CounterVec   // times that something was said which cannot be told any more, by reason
	FeedRoundTrip        prometheus.Histogram     // heartbeat sent to heard
	WALChanges           *prometheus.CounterVec   // what the WAL told, by stream and kind (insert, update, delete, truncate, message)
	WALLarge             *prometheus.CounterVec   // of these, those whose long values were left out, by stream
	WALBytes             *prometheus.CounterVec   // bytes received, by stream
	WALConnections       *prometheus.CounterVec   // times that a stream began, by stream
	WALDelay             *prometheus.HistogramVec // COMMIT to told completely, by stream
	ChangesSubscriptions prometheus.Gauge         // channels that want changes of rows
	ChangesDelivered     prometheus.Counter       // frames with a change, one per receiver
	ChangesQuestions     *prometheus.CounterVec   // questions asked of the database for them, by what is asked
	ChangesBatch         prometheus.Histogram     // changes judged together
	ChangesRefused       *prometheus.CounterVec   // changes kept from an audience, by reason
	ChangesTroubles      *prometheus.CounterVec   // times that a subscriber was told why changes are kept from it, by code
	ChangesGaps          *prometheus.CounterVec   // times that a subscriber was told of a gap, by reason
	ChangesSeconds       prometheus.Histogram     // COMMIT to delivery
	Syncs                *prometheus.CounterVec   // answers to realtime.sync(), by result (answered, failed)
	LeaseHeld            prometheus.Gauge         // 1 while this server may serve its database, else 0
	KeyRefreshes         *prometheus.CounterVec   // fetches of key sets, by result
	Build                *prometheus.GaugeVec     // 1, labelled with the version
	SlotWAL              prometheus.Gauge         // bytes of WAL that the durable slot of Postgres Changes holds back
	SlotDrops            prometheus.Counter       // times that it was dropped because these were too many
	latencyBuckets       []float64
	pool                 *pool
	keys                 keys
}

// New makes the metrics of one server on a registry of their own.
func New() *Metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := &Metrics{Registry: r, latencyBuckets: prometheus.ExponentialBuckets(0.0001, 2.5, 14), pool: newPool()} // 0.1 ms to 15 s
	r.MustRegister(m.pool, &m.keys)
	m.Sockets = m.gauge("realtime_sockets", "Open WebSocket connections.")
	m.SocketsRefused = m.counters("realtime_sockets_refused_total", "Handshakes answered with an HTTP error.", "reason")
	m.SocketsClosed = m.counters("realtime_sockets_closed_total", "Closed WebSocket connections.", "reason")
	m.FramesIn = m.counters("realtime_frames_received_total", "Frames read from clients.", "version")
	m.FramesBad = m.counters("realtime_frames_bad_total", "Frames that could not be understood.", "reason")
	m.BytesOut = m.counter("realtime_sent_bytes_total", "Bytes handed to the kernel for clients.")
	m.WritesOut = m.counter("realtime_writes_total", "Write calls that carried frames to clients.")

	m.Channels = m.gauges("realtime_channels", "Joined channels.", "kind")
	m.Joins = m.counters("realtime_joins_total", "Joins answered.", "code")
	m.ChannelsClosed = m.counters("realtime_channels_closed_total", "Channels ended by the server.", "code")
	m.Broadcasts = m.counters("realtime_broadcasts_total", "Broadcasts accepted for delivery.", "origin")
	m.SendsRefused = m.counters("realtime_sends_refused_total", "Sends answered with an error.", "code")
	m.Deliveries = m.counter("realtime_deliveries_total", "Frames handed to a receiver's queue.")
	m.Withheld = m.counters("realtime_withheld_total", "Frames kept from a receiver.", "reason")
	m.RESTRequests = m.counters("realtime_rest_requests_total", "Requests over REST answered.", "route", "status")
	m.RESTRefused = m.counters("realtime_rest_refused_total", "Requests over REST refused.", "code")
	m.Replayed = m.counter("realtime_replayed_total", "Messages of the past read for a receiver who asked for them.")
	m.ReplayGaps = m.counters("realtime_replay_gaps_total", "Times that a receiver was told that what is replayed may not be all.", "reason")
	m.MessagesDropped = m.counters("realtime_messages_dropped_total", "Database messages delivered to nobody.", "reason")

	m.PresenceTracked = m.gauge("realtime_presence_tracked", "Members that are present on a channel.")
	m.PresenceEvents = m.counters("realtime_presence_events_total", "Events that changed who is present.", "event")
	m.PresenceDiffs = m.counter("realtime_presence_diffs_total", "Frames that tell a channel of changes in presence.")
	m.PresenceStates = m.counter("realtime_presence_states_total", "Frames that tell one member who is present.")

	m.Decisions = m.counters("realtime_decisions_total", "Decisions made by Postgres.", "verdict")
	m.DecisionSeconds = m.histogram("realtime_decision_seconds", "One decision round trip.", m.latencyBuckets)
	m.DecisionBatch = m.histogram("realtime_decision_batch_requests", "Requests decided in one round trip.", prometheus.ExponentialBuckets(1, 2, 8))
	m.DecisionsLost = m.counter("realtime_decision_log_lost_total", "Entries that the decision log lacks.")
	m.Marks = m.counters("realtime_marks_total", "Invalidations heard.", "aim")
	m.MarkedSubscriptions = m.counter("realtime_marked_subscriptions_total", "Subscriptions put on hold until decided again.")
	m.RevokeSeconds = m.histogram("realtime_revoke_seconds", "From hearing that a right changed to the channel being cut.", m.latencyBuckets)

	m.DecisionsVoid = m.counter("realtime_decisions_void_total", "Decisions made again, because what the policies depend on had changed.")
	m.Dependencies = m.gauges("realtime_dependencies", "Tables, functions and views that the policies depend on.", "noticed_by")
	m.Opaque = m.gauge("realtime_dependencies_opaque", "Of these, those that may depend on more than can be found out.")
	m.Discoveries = m.counters("realtime_discoveries_total", "Times that it was found out what the policies depend on.", "result")
	m.DigestChanges = m.counter("realtime_digest_changes_total", "Changes of definitions and privileges that had everybody decided again.")
	m.Rechecks = m.counter("realtime_rechecks_total", "Subscriptions decided again by the timer.")

	m.FeedHearing = m.gauge("realtime_feed_hearing", "1 while the server is proven to hear the database.")
	m.FeedReconnects = m.counter("realtime_feed_reconnects_total", "Times the listener was set up again.")
	m.FeedHeard = m.counters("realtime_feed_hints_total", "Notifications, and messages of the WAL, heard.", "kind", "source")
	m.FeedSource = m.gauges("realtime_feed_source", "1 for the source by which messages are heard.", "source")
	m.FeedSwitches = m.counters("realtime_feed_switches_total", "Times that messages were heard by the other source from then on.", "reason")
	m.FeedAlarms = m.counter("realtime_feed_alarms_total", "Marks that came by NOTIFY while the WAL is heard: told at once, and again in their place.")
	m.FeedIgnored = m.counters("realtime_feed_ignored_total", "Notifications that were of no use.", "reason")
	m.FeedCaughtUp = m.counters("realtime_feed_caught_up_total", "Messages, marks and disconnects told after the listener had been away.", "kind")
	m.FeedMissed = m.counters("realtime_feed_missed_total", "Times that the listener had been away and what it missed was lost for good.", "reason")
	m.FeedRoundTrip = m.histogram("realtime_feed_heartbeat_seconds", "Heartbeat sent to heartbeat heard.", m.latencyBuckets)
	m.WALChanges = m.counters("realtime_wal_changes_total", "Rows, truncations and messages that the WAL told.", "stream", "kind")
	m.WALLarge = m.counters("realtime_wal_large_total", "Of these, those so large that their long values were left out.", "stream")
	m.WALBytes = m.counters("realtime_wal_received_bytes_total", "Bytes that Postgres sent for the stream.", "stream")
	m.WALConnections = m.counters("realtime_wal_streams_total", "Times that a stream of the WAL began.", "stream")
	m.WALDelay = m.histograms("realtime_wal_delay_seconds", "From COMMIT, by the clock of the database, to the transaction being told completely.", m.latencyBuckets, "stream")
	m.ChangesSubscriptions = m.gauge("realtime_changes_subscriptions", "Channels that asked for changes of rows.")
	m.ChangesDelivered = m.counter("realtime_changes_delivered_total", "Changes of rows given to a receiver.")
	m.ChangesQuestions = m.counters("realtime_changes_questions_total", "Questions asked of the database for changes of rows.", "question")
	m.ChangesBatch = m.histogram("realtime_changes_batch_size", "Changes of rows judged together.", prometheus.ExponentialBuckets(1, 2, 9))
	m.ChangesRefused = m.counters("realtime_changes_refused_total", "Changes of rows that an audience could not be asked about, or was told of without the row.", "reason")
	m.ChangesTroubles = m.counters("realtime_changes_troubles_total", "Times that a subscriber was told why it is not told of changes of rows, or may have missed some.", "code")
	m.ChangesGaps = m.counters("realtime_changes_gaps_total", "Times that a subscriber was told that changes of rows may be missing.", "reason")
	m.ChangesSeconds = m.histogram("realtime_changes_seconds", "From COMMIT, by the clock of the database, to the change of a row being delivered.", m.latencyBuckets)
	m.Syncs = m.counters("realtime_syncs_total", "Answers to realtime.sync(), each for all that called before it.", "result")
	m.LeaseHeld = m.gauge("realtime_lease_held", "1 while this server has the lease, and so serves.")
	m.SlotWAL = m.gauge("realtime_changes_slot_wal_bytes", "WAL that the slot of CHANGES_SLOT holds back.")
	m.SlotDrops = m.counter("realtime_changes_slot_drops_total", "Times that the slot of CHANGES_SLOT was dropped because it held back too much.")
	m.KeyRefreshes = m.counters("realtime_jwks_refreshes_total", "Fetches of the public keys that tokens are verified with.", "result")
	m.Build = m.gauges("realtime_build_info", "1, labelled with the version that runs.", "version")
	return m
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	m.Registry.MustRegister(c)
	return c
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.Registry.MustRegister(c)
	return c
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	m.Registry.MustRegister(g)
	return g
}

func (m *Metrics) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.Registry.MustRegister(g)
	return g
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.Registry.MustRegister(h)
	return h
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	m.Registry.MustRegister(h)
	return h
}
