// Package messages carries what the database says to those on this node: the feed's marks and messages become the hub's.
// The order in which it is told is the order in which it tells.
package messages

import (
	"encoding/json"
	"log/slog"

	"rowcast/server/feed"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// Delivery is the feed's Sink.
type Delivery struct {
	Hub     *hub.Hub
	Users   Users
	Logger  *slog.Logger
	Metrics *metrics.Metrics
}

// Users are those who have a socket here.
type Users interface {
	// Disconnect returns when nothing reaches the user's sockets any more.
	Disconnect(subject, reason string)
}

// Mark has everyone concerned decided again.
func (d Delivery) Mark(m feed.Mark) {
	d.Hub.Mark(hub.Mark{XID: m.XID, Subject: m.Subject, Topic: m.Topic, Lenient: m.Lenient, Seen: m.Seen})
}

// Disconnect closes all sockets of a user. It does not go through the hub's log: what is there already and has not begun to
// leave is given up.
func (d Delivery) Disconnect(x feed.Disconnect) { d.Users.Disconnect(x.Subject, x.Reason) }

// Deaf stops private delivery.
func (d Delivery) Deaf() { d.Hub.Deaf() }

// Hearing has all private subscriptions decided again.
func (d Delivery) Hearing() { d.Hub.Hearing() }

// Rewound forgets what is remembered of transactions that the database may have lost.
func (d Delivery) Rewound(to snapshot.Snapshot) { d.Hub.Rewound(to) }

// CatchingUp has messages that come late withheld from those whose rights may have changed.
func (d Delivery) CatchingUp() { d.Hub.CatchingUp() }

// Settled has late messages wait for those who are decided again.
func (d Delivery) Settled() bool { return d.Hub.Settled() }

// Dropped tells those who would have been given it.
func (d Delivery) Dropped(m feed.Message) {
	if m.Topic != "" {
		d.Hub.Dropped(hub.Room{Name: m.Topic, Private: m.Private})
	}
}

// Missed tells everyone that something was lost.
func (d Delivery) Missed() { d.Hub.Missed() }

// CaughtUp ends CatchingUp.
func (d Delivery) CaughtUp() { d.Hub.CaughtUp() }

// Message gives a row of realtime.messages to its room, with its id as meta.id.
func (d Delivery) Message(m feed.Message) {
	push := protocol.UserBroadcast{Event: m.Event, Encoding: protocol.JSON, Payload: m.Payload, Meta: meta(m.ID)}
	if m.Binary != nil {
		push.Encoding, push.Payload = protocol.Binary, m.Binary
	}
	frame, err := protocol.NewUserBroadcast(protocol.TopicPrefix+m.Topic, push)
	if err != nil {
		// send() refuses names that do not fit into a frame; this row was inserted past it.
		d.Metrics.MessagesDropped.WithLabelValues("unframeable").Inc()
		d.Logger.Warn("message not delivered", "err", err, "message_id", m.ID)
		d.Dropped(m)
		return
	}
	d.Metrics.Broadcasts.WithLabelValues("database").Inc()
	d.Hub.Publish(hub.Publication{Room: hub.Room{Name: m.Topic, Private: m.Private}, Frame: frame, XID: m.XID})
}

// meta is what receivers find beside the payload.
func meta(id string) []byte {
	b, _ := json.Marshal(map[string]string{"id": id}) // a map of strings always marshals
	return b
}
