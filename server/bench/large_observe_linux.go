package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// largeRevokeEvery is between revocations, and largeRevocable how many there can be.
	largeRevokeEvery, largeRevocable = 200 * time.Millisecond, 900
	// largeSampleEvery is between looks at the server's heap.
	largeSampleEvery = 100 * time.Millisecond
)

// observation is what others notice all the time: who is sent something by the database or by a client, and whose rights end.
type observation struct {
	server                         *target
	sends, broadcasts, revocations latencies
	oddities                       oddities // what else those are told who keep their rights
	visitors                       []*visitor
	heap                           atomic.Uint64 // bytes in use at most, since the phase began

	stop   func() // what goes on, and waits for it
	group  sync.WaitGroup
	failed chan struct{} // closed on the first error
	once   sync.Once
	err    error // read once the group has ended
}

// observe starts to look.
func (b *bench) observe(server *target) (*observation, error) {
	o := &observation{server: server, failed: make(chan struct{})}
	sessions, persons, err := members(largeRevocable+1, peopleRooms)
	if err != nil {
		return nil, err
	}
	const private = `{"private":true}`
	// The first is sent to by the database, and keeps its rights.
	if err := o.admit(b, sessions[0], private, func(payload []byte, at time.Time) {
		if number, ok := readNumber(payload); ok && string(eventOf(payload)) == "broadcast" {
			o.sends.end(number, at)
			return
		}
		o.oddities.add(payload, at)
	}); err != nil {
		return nil, err
	}
	b.say("large: %d sessions", len(sessions))
	for i, s := range sessions[1:] {
		s.Topic = "realtime:" + roomOf(persons[i+1])
		if err := o.admit(b, s, private, func(payload []byte, at time.Time) {
			if string(eventOf(payload)) == "phx_close" {
				o.revocations.end(i, at)
			}
		}); err != nil {
			return nil, err
		}
	}
	public := session{Topic: topicName(0), Token: sessions[0].Token}
	if err := o.admit(b, public, `{"private":false,"broadcast":{"self":true}}`, func(payload []byte, at time.Time) {
		if _, number, ok := readStamp(payload); ok {
			o.broadcasts.end(int(number), at)
			return
		}
		o.oddities.add(payload, at)
	}); err != nil {
		return nil, err
	}
	conns, done, err := dial(b.ctx, b.database.admin, 2)
	if err != nil {
		o.leave()
		return nil, err
	}
	ctx, cancel := context.WithCancel(b.ctx)
	o.stop = func() { cancel(); o.group.Wait(); done() }
	talker := o.visitors[len(o.visitors)-1]
	o.keep(ctx, sendEvery, func() error { return o.send(b.ctx, conns[0], roomOf(persons[0])) })
	o.keep(ctx, sendEvery, func() error { return o.broadcast(b.ctx, talker, newBroadcast(public.Topic)) })
	o.keep(ctx, largeRevokeEvery, func() error { return o.revoke(b.ctx, conns[1], persons[1:]) })
	o.keep(ctx, largeSampleEvery, o.sampleHeap)
	return o, nil
}

func (o *observation) admit(b *bench, s session, config string, hear func([]byte, time.Time)) error {
	v, err := b.enter(o.server, s, config, hear)
	if err != nil {
		o.leave()
		return err
	}
	o.visitors = append(o.visitors, v)
	return nil
}

// keep does something over and over, until it fails or ctx ends.
func (o *observation) keep(ctx context.Context, every time.Duration, do func() error) {
	o.group.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if err := do(); err != nil {
				o.once.Do(func() { o.err = err; close(o.failed) })
				return
			}
		}
	})
}

// send counts from the COMMIT on.
func (o *observation) send(ctx context.Context, conn *pgx.Conn, topic string) error {
	if _, err := conn.Exec(ctx, question("send_number"), topic, o.sends.next()); err != nil {
		return fmt.Errorf("send from the database: %w", err)
	}
	o.sends.start(time.Now())
	return nil
}

// broadcast counts from before it is sent.
func (o *observation) broadcast(ctx context.Context, v *visitor, m broadcast) error {
	now := time.Now()
	frame := bytes.Clone(m.at(now.UnixNano(), int64(o.broadcasts.start(now))))
	_, payload, _, _, err := cutFrame(frame, true)
	if err != nil {
		return err
	}
	return v.say(ctx, payload)
}

// revoke takes rights away as long as somebody has any.
func (o *observation) revoke(ctx context.Context, conn *pgx.Conn, persons []int) error {
	n := o.revocations.next()
	if n == len(persons) {
		return nil
	}
	if _, err := conn.Exec(ctx, question("revoke"), personID(persons[n])); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	o.revocations.start(time.Now())
	return nil
}

func (o *observation) sampleHeap() error {
	counts, err := o.server.counts(context.Background())
	if err != nil {
		return fmt.Errorf("read the heap: %w", err)
	}
	if now := uint64(counts["go_memstats_heap_inuse_bytes"]); now > o.heap.Load() {
		o.heap.Store(now)
	}
	return nil
}

// begin has the most memory counted anew.
func (o *observation) begin(p *phase) error {
	o.heap.Store(0)
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", o.server.pid()), []byte("5"), 0); err != nil {
		return fmt.Errorf("reset the peak of RSS: %w", err)
	}
	p.begin = time.Now()
	return nil
}

func (o *observation) finish(p *phase) error {
	p.end = time.Now()
	kb, err := peakKB(o.server.pid())
	p.heap, p.rss = float64(o.heap.Load())/(1<<20), kb/1024
	return errors.Join(err, o.sampleHeap())
}

// end stops to look, once all that was begun has ended.
func (o *observation) end() error {
	o.stop()
	defer o.leave()
	limit := time.After(effectPatience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for o.err == nil && o.sends.open()+o.broadcasts.open()+o.revocations.open() > 0 {
		select {
		case <-tick.C:
		case <-limit:
			return fmt.Errorf("after %s there have not come, of messages of the database %s; of broadcasts %s; of revocations %s; %s",
				effectPatience, o.sends.missing(), o.broadcasts.missing(), o.revocations.missing(), o.witnesses())
		}
	}
	if twice := o.sends.twice() + o.broadcasts.twice() + o.revocations.twice(); o.err == nil && twice > 0 {
		return fmt.Errorf("%d messages and revocations came twice; %s", twice, o.witnesses())
	}
	return o.err
}

// witnesses say what may tell why.
func (o *observation) witnesses() string {
	text, err := o.server.ask(context.Background(), "/metrics")
	counts := countsOf(string(text), "realtime_", "_total")
	if err != nil {
		counts = err.Error()
	}
	return fmt.Sprintf("those who were to be told them were told besides: %s\nthe server counts: %s\nand it says: %s", &o.oddities, counts, o.server.errors)
}

func (o *observation) leave() {
	for _, v := range o.visitors {
		v.leave()
	}
	o.visitors = nil
}
