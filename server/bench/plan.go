package main

import "time"

// plan is what the generator is to do; it reads it from standard input.
type plan struct {
	Address  string // of the server, host:port of IPv4
	Path     string // of the WebSocket, without the token
	Private  bool   // join private channels
	Sessions []session
	AtOnce   int // how many sockets may be on their way to a channel; 0: as many as keep the server busy
	Process  int // of the server, whose CPU time is read; 0: none

	// One of these, or neither: then the sockets are held open until standard input ends.
	Outstanding int     // closed loop: publications on their way in each room
	Rate        float64 // open loop: publications a second, over all rooms

	Warm, Window time.Duration

	Table string // of schema public, whose changes are told: the sockets are held
	Told  int64  // of these, how many it takes until a report is wanted

	Crowd *crowding // instead of all that
}

// crowding is what people do who come to rooms together: they talk, and if they are present, they go after that.
type crowding struct {
	Presence bool
	Messages int           // that each says
	Patience time.Duration // while nothing at all comes; what is missing then is lost
}

// session is one socket in one room. The first in each room publishes.
type session struct {
	Topic, Token string
	Key          string // among those who are present; empty: it does not want to know who is
}

// spread has n sockets join as many rooms.
func spread(n, rooms int, token string) []session {
	all := make([]session, n)
	for i := range all {
		all[i] = session{Topic: topicName(i % rooms), Token: token}
	}
	return all
}

// What a report is about.
const (
	reportReady   = "ready"   // all sockets have joined
	reportMeasure = "measure" // the warm-up is over
	reportEnded   = "ended"   // a session that is held: its channel was closed
	reportAll     = "all"     // all sessions that are held were sent what goes to all
	reportTold    = "told"    // as many changes as the plan wants
	reportTalked  = "talked"  // a crowd: everything said was heard
	reportHalved  = "halved"  // half of them have gone
	reportDone    = "done"
)

// report is what the generator says, a line of JSON each.
type report struct {
	About string

	// ready and done
	Seconds   float64 // that joining took; the window
	ServerCPU float64 // in that time, seconds
	OwnCPU    float64
	OtherCPU  float64       // of everybody else on the machine
	P50, P99  time.Duration // ready: from when the first began to connect; done: of deliveries

	Answer time.Duration // ready: from when somebody asks to join to the answer, the 99th percentile

	// done
	Published  int64
	Deliveries int64 // within the window
	Bytes      int64 // of these, as frames
	Lost       int64 // published and never delivered, to the end
	Cut        int   // connections that the server ended
	Why        string
	Ends       []ending // of each session, when held

	At int64 // all: when the last one had it, Unix nanoseconds

	// of a crowd
	Settled time.Duration // from the last cause of it to when everyone knew who was present
	Told    told
	Faults  faults
}

// told is what presence told a crowd.
type told struct {
	Frames, Bytes int64
	Changes       int64 // in these frames, of one member each; a state counts as one
}

// ending is when a session last heard a broadcast, and when its channel was closed; Unix nanoseconds, 0: never.
type ending struct{ Heard, Closed int64 }
