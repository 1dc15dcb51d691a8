package main

import (
	"fmt"
	"time"

	"rowcast/server/protocol"
)

// toldAudiences: groups differ in what they may see, and everybody in one sees the same. Who is asked by a lookup has a decision group
// of his own, though many see the same.
var toldAudiences = []audience{
	{name: "1 subscriber", table: "told_all", subscribers: 1, groups: 1},
	{name: "100 in 1 group", table: "told_all", subscribers: 100, groups: 1},
	{name: "100 in 20 groups", table: "told_org", subscribers: 100, groups: 20},
	{name: "100, all distinct", table: "told_own", subscribers: 100, groups: 100},
	{name: "1,000 in 1 group", table: "told_all", subscribers: 1000, groups: 1},
	{name: "1,000 in 20 groups", table: "told_org", subscribers: 1000, groups: 20},
	{name: "1,000, all distinct", table: "told_own", subscribers: 1000, groups: 1000},
	{name: "1,000, all distinct, by (select …)", table: "told_once", subscribers: 1000, groups: 1000},
	{name: "5,000 in 1 group", table: "told_all", subscribers: 5000, groups: 1},
	{name: "5,000 in 20 groups", table: "told_org", subscribers: 5000, groups: 20},
	{name: "5,000, all distinct", table: "told_own", subscribers: 5000, groups: 5000},
	{name: "5,000, all distinct, by (select …)", table: "told_once", subscribers: 5000, groups: 5000},
	{name: "100, all asked, by a lookup", table: "told_member", subscribers: 100, groups: 20},
	{name: "1,000, all asked, by a lookup", table: "told_member", subscribers: 1000, groups: 20},
	{name: "5,000, all asked, by a lookup", table: "told_member", subscribers: 5000, groups: 20},
	{name: "without RLS, 1", table: "told_open", subscribers: 1, groups: 1},
	{name: "without RLS, 1,000", table: "told_open", subscribers: 1000, groups: 1},
	{name: "without RLS, 1,000 filters", table: "told_open", subscribers: 1000, groups: 1000, filtered: true},
}

// toldPaced are those to whom changes are told at a steady rate, too.
var toldPaced = map[string]bool{
	"1 subscriber": true, "1,000 in 1 group": true, "1,000 in 20 groups": true, "1,000, all distinct": true, "5,000 in 1 group": true, "5,000, all distinct": true,
	"100, all asked, by a lookup": true, "1,000, all asked, by a lookup": true, "5,000, all asked, by a lookup": true,
	"1,000, all distinct, by (select …)": true, "5,000, all distinct, by (select …)": true,
	"without RLS, 1": true,
}

// changes has the server's own engine tell subscribers in this process of rows, each written in a transaction of its own. Beside
// it, a bare stream of the WAL that gives the same frames to as many as may see them, and asks nobody. Nothing is pinned:
// Postgres needs the cores, too.
func (b *bench) changes() (section, error) {
	return b.tellAll(toldAudiences, int(b.pick(3*time.Second, 100*time.Millisecond)/pacedEvery))
}

func (b *bench) tellAll(audiences []audience, count int) (s section, err error) {
	s = section{
		title: "Changes of rows, all cores: subscribers in one process with the engine, INSERTs in a transaction each by one connection; beside a bare stream that gives the same frames to as many",
		rows: [][]string{{"", "ratio", "changes/s", "stream's/s", "deliveries/s", "a batch", "statements a batch", "a change", "questions a change", "own CPU µs a change",
			"subscribed ms", "p50 ms", "p99 ms"}},
	}
	if err := b.sample(); err != nil {
		return s, err
	}
	if err := b.ask("changes"); err != nil {
		return s, err
	}
	defer func() {
		if end := b.ask("changes_end"); err == nil {
			err = end
		}
	}()
	floors := map[int]flow{} // by how many are told
	for _, a := range audiences {
		row, err := b.tellOne(a, floors, count)
		if err != nil {
			return s, fmt.Errorf("%s: %w", a.name, err)
		}
		s.rows = append(s.rows, row)
	}
	if s.notes, err = b.tellBarely(count); err != nil {
		return s, err
	}
	hearers := min(socketHearers, 10*count)
	note, err := b.tellSockets(socketChanges, hearers)
	s.notes = append(s.notes, note)
	return s, err
}

// tellOne measures one audience, and the bare stream unless it was.
func (b *bench) tellOne(a audience, floors map[int]flow, count int) ([]string, error) {
	b.say("changes told to %s", a.name)
	t, err := b.engine(a)
	if err != nil {
		return nil, err
	}
	own, err := b.measureFlow(t, a.name)
	late := paced{}
	if err == nil && toldPaced[a.name] && own.rate() > float64(time.Second/pacedEvery) {
		late, err = b.pace(t, count)
	}
	t.stop()
	if err != nil {
		return nil, err
	}
	floor, measured := floors[a.hearers()]
	if !measured {
		if floor, err = b.measureBare(audience{table: a.table, subscribers: a.hearers(), groups: 1}, t.frame.Load().Bytes(protocol.V2)); err != nil {
			return nil, err
		}
		floors[a.hearers()] = floor
	}
	n := float64(own.changes)
	row := []string{
		a.name, figure(own.rate() / floor.rate()), figure(own.rate()), figure(floor.rate()), figure(float64(own.deliveries) / own.took.Seconds()),
		figure(n / own.batches), figure(float64(own.statements) / own.batches), figure(float64(own.statements) / n), figure(own.questions / n), figure(own.cpu / n * 1e6),
		milliseconds(t.subscribed), "", "",
	}
	if len(late.told.sorted) > 0 { // else it is of no interest, or they would fall ever further behind
		row[11], row[12] = milliseconds(late.told.at(0.5)), milliseconds(late.told.at(0.99))
	}
	return row, nil
}

func (b *bench) measureBare(a audience, frame []byte) (flow, error) {
	t, err := b.fanOut(a, frame)
	if err != nil {
		return flow{}, err
	}
	defer t.stop()
	return b.measureFlow(t, fmt.Sprintf("bare-%d", a.subscribers))
}

// tellBarely says what the database can do by itself: rows into the WAL and out of it, and how soon a NOTIFY is heard.
func (b *bench) tellBarely(count int) (notes []string, err error) {
	f, err := b.measureBare(audience{table: "told_all", groups: 1}, nil)
	if err != nil {
		return nil, err
	}
	notes = append(notes, fmt.Sprintf("A bare stream that tells nobody: %s changes/s, own CPU %s µs each; the INSERTs were done after %.0f %% of the time.",
		figure(f.rate()), figure(f.cpu/float64(f.changes)*1e6), 100*f.writing.Seconds()/f.took.Seconds()))
	t, err := b.fanOut(audience{table: "told_all", subscribers: 1, groups: 1}, []byte(`"postgres_changes",{}]`))
	if err != nil {
		return nil, err
	}
	defer t.stop()
	p, err := b.pace(t, count)
	if err != nil {
		return nil, err
	}
	return append(notes, fmt.Sprintf("Latency from COMMIT to the last delivery, at %s changes a second. So a bare stream: p50 %s ms, p99 %s; a bare NOTIFY: p50 %s, p99 %s.",
		figure(float64(time.Second/pacedEvery)), milliseconds(p.told.at(0.5)), milliseconds(p.told.at(0.99)), milliseconds(p.noticed.at(0.5)), milliseconds(p.noticed.at(0.99)))), nil
}
