package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/coder/websocket"
)

// visitor is a client with a goroutine of its own, where few are needed: it hears each message at once.
type visitor struct {
	conn *websocket.Conn
	gone chan struct{} // closed when nothing more is heard
}

// visitPatience bounds a join and a write.
const visitPatience = 30 * time.Second

// enter connects and joins. What comes then is told to hear, until the visitor leaves.
func (b *bench) enter(t *target, s session, config string, hear func(payload []byte, at time.Time)) (*visitor, error) {
	ctx, cancel := context.WithTimeout(b.ctx, visitPatience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+t.address+socketPath+"&apikey="+s.Token, nil)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	conn.SetReadLimit(-1)
	v := &visitor{conn, make(chan struct{})}
	if err := v.join(ctx, s, config); err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	go func() {
		defer close(v.gone)
		for {
			_, payload, err := conn.Read(b.ctx)
			if err != nil {
				return
			}
			hear(payload, time.Now())
		}
	}()
	return v, nil
}

func (v *visitor) join(ctx context.Context, s session, config string) error {
	join := fmt.Appendf(nil, `{"topic":"%s","event":"phx_join","payload":{"config":%s},"ref":"1","join_ref":"1"}`, s.Topic, config)
	if err := v.conn.Write(ctx, websocket.MessageText, join); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	_, answer, err := v.conn.Read(ctx)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if string(eventOf(answer)) != "phx_reply" || !bytes.Contains(answer, []byte(`"status":"ok"`)) {
		return fmt.Errorf("join refused: %.300q", answer)
	}
	return nil
}

func (v *visitor) say(ctx context.Context, message []byte) error {
	ctx, cancel := context.WithTimeout(ctx, visitPatience)
	defer cancel()
	if err := v.conn.Write(ctx, websocket.MessageText, message); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// leave ends the connection, and waits until nothing more is heard.
func (v *visitor) leave() {
	_ = v.conn.CloseNow()
	<-v.gone
}
