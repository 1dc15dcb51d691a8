package main

import (
	"bytes"
	"fmt"
	"time"
)

// message is a text frame of the server.
func (g *generator) message(c *client, payload []byte, size int, now int64) error {
	switch event := eventOf(payload); string(event) {
	case "broadcast":
		if g.publishing {
			return g.delivery(c, payload, size, now)
		}
		c.ending.Heard = now
		if bytes.Contains(payload, []byte(`"event":"all"`)) {
			g.sentToAll++
			return g.tellAll(now)
		}
	case "phx_reply":
		if c.stage != joining {
			return fmt.Errorf("a reply that nobody asked for: %.300q", payload)
		}
		if !bytes.Contains(payload, []byte(`"status":"ok"`)) {
			return fmt.Errorf("join refused: %.300q", payload)
		}
		c.stage = joined
		g.answers.add(time.Duration(now - c.asked))
		g.joining--
		g.joined++
		g.joins.add(time.Since(g.began))
	case "phx_close":
		c.ending.Closed = now
		g.closed++
		if err := g.tell(report{About: reportEnded}); err != nil {
			return err
		}
		return g.tellAll(now)
	case "postgres_changes":
		g.deliveries++
		g.bytes += int64(size)
		if g.deliveries == g.plan.Told {
			return g.tell(report{About: reportTold, At: now, Bytes: g.bytes})
		}
	case "system": // tells people why
		if g.plan.Table != "" {
			return g.subscription(payload)
		}
	default:
		return fmt.Errorf("unexpected message: %.300q", payload)
	}
	return nil
}

// subscription is what a client is told of its own. None may go wrong.
func (g *generator) subscription(payload []byte) error {
	if !bytes.Contains(payload, []byte(`"Subscribed to PostgreSQL"`)) {
		return fmt.Errorf("a subscription goes wrong: %.300q", payload)
	}
	g.subscribed++
	return nil
}

// tellAll says that what goes to all has come to everyone who is still there.
func (g *generator) tellAll(now int64) error {
	if g.sentToAll == 0 || g.sentToAll < g.joined-g.closed {
		return nil
	}
	g.sentToAll = 0
	return g.tell(report{About: reportAll, At: now})
}

// delivery is a broadcast of our own.
func (g *generator) delivery(c *client, payload []byte, size int, now int64) error {
	sent, number, ok := readStamp(payload)
	if !ok {
		return fmt.Errorf("a broadcast without a stamp: %.300q", payload)
	}
	if number != c.heard+1 {
		return fmt.Errorf("broadcast %d came after %d", number, c.heard)
	}
	c.heard = number
	c.room.deliveries++
	g.deliveries++
	g.bytes += int64(size)
	if g.window.begin <= sent && sent < g.window.end {
		g.latency.add(time.Duration(now - sent))
	}
	if g.plan.Outstanding > 0 {
		g.topUp(c.room, now)
	}
	return nil
}

// topUp keeps as many publications on their way as the plan wants; one is over when all have heard it.
func (g *generator) topUp(r *room, now int64) {
	for r.published*r.clients-r.deliveries <= int64(g.plan.Outstanding-1)*r.clients {
		g.publish(r, now)
	}
}

func (g *generator) publish(r *room, sent int64) {
	r.published++
	if r.publisher.stage == joined { // else it is lost
		g.send(r.publisher, r.broadcast.at(sent, r.published))
	}
}
