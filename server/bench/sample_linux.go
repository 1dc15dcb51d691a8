package main

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/sql"
)

// people and rooms are those of sql/bench/fill.sql.
const (
	people      = 20_000
	peopleRooms = 100
)

func personID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func roomOf(n int) string { return fmt.Sprintf("room:%d", 1000+n%peopleRooms) }

// question is a file of sql/bench.
func question(name string) string {
	text, err := sql.Bench.ReadFile(path.Join("bench", name+".sql"))
	if err != nil {
		panic(err) // it is embedded
	}
	return string(text)
}

// sample fills the database with the chat sample, many people, and the sample's policy on its rooms; once.
func (b *bench) sample() error {
	if b.sampled {
		return nil
	}
	b.say("filling the database: %d members of %d rooms", people, peopleRooms)
	if _, err := postgres.ApplyAuth(b.ctx, b.database.url); err != nil {
		return err
	}
	if err := b.execute("fill the database", sql.Chat, question("fill")); err != nil {
		return err
	}
	if err := b.samplePolicies(); err != nil {
		return err
	}
	b.sampled = true
	return nil
}

// samplePolicies has the sample's policy on its rooms in force.
func (b *bench) samplePolicies() error {
	text, err := sql.Policies.ReadFile("policies/room_members.sql")
	if err != nil {
		return fmt.Errorf("read the policy: %w", err)
	}
	return b.execute("load the policy", string(text))
}

// members are sessions of n people in their own rooms, of which there are few.
func members(n, rooms int) ([]session, []int, error) {
	var sessions []session
	var persons []int
	for person := 0; len(sessions) < n; person++ {
		if person%peopleRooms >= rooms {
			continue
		}
		token, err := mint("authenticated", personID(person))
		if err != nil {
			return nil, nil, err
		}
		sessions = append(sessions, session{Topic: "realtime:" + roomOf(person), Token: token})
		persons = append(persons, person)
	}
	return sessions, persons, nil
}

// ask has the database do one thing.
func (b *bench) ask(name string) error {
	return b.execute(fmt.Sprintf("ask %s of the database", name), question(name))
}

// execute has a superuser run scripts, one after the other.
func (b *bench) execute(what string, scripts ...string) error {
	conns, done, err := dial(b.ctx, b.database.admin, 1)
	if err != nil {
		return err
	}
	defer done()
	for _, script := range scripts {
		if _, err := conns[0].Exec(b.ctx, script); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// dial opens connections of the kind that an application has: statements are prepared once.
func dial(ctx context.Context, url string, n int) (conns []*pgx.Conn, close func(), err error) {
	close = func() {
		for _, c := range conns {
			_ = c.Close(context.WithoutCancel(ctx))
		}
	}
	for range n {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			close()
			return nil, nil, errors.Join(errors.New("connect to Postgres"), err)
		}
		conns = append(conns, conn)
	}
	return conns, close, nil
}
