package main

import (
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// floorAt runs the floor in this process.
func floorAt(t *testing.T) string {
	t.Helper()
	f, err := newFloor()
	if err != nil {
		t.Fatal(err)
	}
	stop, end := pipe(t)
	done := make(chan error, 1)
	go func() { done <- f.serve(int(stop.Fd())) }()
	t.Cleanup(func() {
		end.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return localhost(f.port)
}

func localhost(port int) string {
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
}

func plainAt(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- newPlain().serve(listener) }()
	t.Cleanup(func() {
		listener.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func rowcastAt(t *testing.T) string {
	t.Helper()
	b := onDatabase(t)
	server, err := b.rowcast(anyCore)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.stop)
	return server.address
}

func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	return read, write
}

// carryOut runs a plan in this process and returns what the generator said last. ready is called once all have joined.
func carryOut(t *testing.T, p plan, ready func()) (report, error) {
	t.Helper()
	p.Path = socketPath
	stop, end := pipe(t)
	var last report
	err := generate(p, int(stop.Fd()), func(r report) error {
		last = r
		if r.About == reportReady {
			if ready != nil {
				ready()
			}
			end.Close()
		}
		return nil
	})
	return last, err
}

// The same load on all three servers: everything arrives, in order, and is the same bytes.
func TestLoadOnEveryServer(t *testing.T) {
	t.Parallel()
	token, err := mint("anon", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]func(*testing.T) string{"floor": floorAt, "plain": plainAt, "rowcast": rowcastAt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := at(t)
			p := plan{Address: address, Sessions: spread(20, 4, token), Process: os.Getpid(), Warm: 50 * time.Millisecond, Window: 200 * time.Millisecond}
			closed, open := p, p
			closed.Outstanding, open.Rate = 3, 200
			for _, p := range []plan{closed, open, p} {
				r, err := carryOut(t, p, nil)
				if err != nil {
					t.Fatal(err)
				}
				if r.About != reportDone || r.Lost != 0 || r.Cut != 0 {
					t.Errorf("%+v", r)
				}
				if p.Outstanding == 0 && p.Rate == 0 {
					if len(r.Ends) != len(p.Sessions) {
						t.Errorf("%d endings", len(r.Ends))
					}
					continue
				}
				if r.Published == 0 || r.Deliveries == 0 || r.P50 <= 0 || r.P99 < r.P50 || r.Seconds <= 0 {
					t.Errorf("%+v", r)
				}
				if r.Bytes != r.Deliveries*235 {
					t.Errorf("%d deliveries had %d bytes", r.Deliveries, r.Bytes)
				}
			}
		})
	}
}

// scripted answers each client's message with what answer makes of it; nil ends the connection.
func scripted(t *testing.T, answer func(client int, r request) []byte) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for client := 0; ; client++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				converse(conn, func(r request) []byte { return answer(client, r) })
			})
		}
	})
	t.Cleanup(func() { listener.Close(); group.Wait() })
	return listener.Addr().String()
}

func converse(conn net.Conn, answer func(request) []byte) {
	buf := make([]byte, 4096)
	n, err := conn.Read(buf) // the handshake is one write
	if err != nil {
		return
	}
	conn.Write(upgrade(buf[:n]))
	var stream []byte
	for {
		_, message, rest, ok, err := cutFrame(stream, true)
		if err != nil {
			return
		}
		if !ok {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			stream = append(stream, buf[:n]...)
			continue
		}
		r, _ := readRequest(message)
		said := answer(r)
		if said == nil {
			return
		}
		conn.Write(said)
		stream = rest
	}
}

func textFrame(payload []byte) []byte { return appendFrame(nil, opText, payload, false) }

// echo is a correct server for rooms of one.
func echo(_ int, r request) []byte {
	if string(r.event) == "phx_join" {
		return textFrame(joinReply(r.topic))
	}
	return textFrame(relayed(r))
}

var short = plan{Sessions: spread(1, 1, "t"), Outstanding: 1, Window: 100 * time.Millisecond}

func TestEchoIsCorrect(t *testing.T) {
	t.Parallel()
	p := short
	p.Address = scripted(t, echo)
	if r, err := carryOut(t, p, nil); err != nil || r.Deliveries == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// What no correct server says ends the run.
func TestWrongServersAreFound(t *testing.T) {
	t.Parallel()
	said := map[string]struct{ join, broadcast, want string }{
		"refusal":        {join: string(textFrame([]byte(`{"event":"phx_reply","payload":{"status":"error"},"ref":"1"}`))), want: "join refused"},
		"unknown event":  {join: string(textFrame([]byte(`{"event":"hello"}`))), want: "unexpected message"},
		"no stamp":       {broadcast: string(textFrame([]byte(`{"event":"broadcast","payload":{}}`))), want: "without a stamp"},
		"a second reply": {broadcast: string(textFrame(joinReply([]byte("x")))), want: "nobody asked"},
		"a wrong number": {broadcast: string(textFrame([]byte(`{"event":"broadcast","stamp":"1795315438050622746-0000000002"}`))), want: "came after"},
	}
	for name, frame := range badFrames {
		said[name] = struct{ join, broadcast, want string }{broadcast: frame, want: "frame header"}
	}
	for name, tt := range said {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := short
			p.Address = scripted(t, func(client int, r request) []byte {
				if string(r.event) == "broadcast" && tt.broadcast != "" {
					return []byte(tt.broadcast)
				}
				if tt.join != "" {
					return []byte(tt.join)
				}
				return echo(client, r)
			})
			if _, err := carryOut(t, p, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
	t.Run("handshake", func(t *testing.T) {
		t.Parallel()
		p := short
		p.Address = scripted(t, echo)
		p.Path = "/"
		for _, answer := range []string{"HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: no\r\n\r\n"} {
			if _, _, err := cutHandshake([]byte(answer)); err == nil {
				t.Errorf("%q was taken", answer)
			}
		}
	})
}

// In an open loop nothing waits for what is lost, and it is counted.
func TestLossesAreCounted(t *testing.T) {
	t.Parallel()
	p := plan{Sessions: spread(3, 3, "t"), Rate: 300, Window: 100 * time.Millisecond}
	t.Run("swallowed", func(t *testing.T) {
		t.Parallel()
		p := p
		p.Address = scripted(t, func(client int, r request) []byte {
			if string(r.event) == "broadcast" && client == 1 {
				return []byte{}
			}
			return echo(client, r)
		})
		if r, err := carryOut(t, p, nil); err != nil || r.Lost == 0 || r.Lost >= r.Published || r.Cut != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("cut", func(t *testing.T) {
		t.Parallel()
		p := p
		p.Address = scripted(t, func(client int, r request) []byte {
			if string(r.event) == "broadcast" {
				return nil
			}
			return echo(client, r)
		})
		if r, err := carryOut(t, p, nil); err != nil || r.Lost != r.Published || r.Cut != 3 || r.Why == "" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// A socket that ends before all have joined leaves nothing to measure.
func TestEndWhileJoining(t *testing.T) {
	t.Parallel()
	p := short
	p.Address = scripted(t, func(int, request) []byte { return nil })
	if _, err := carryOut(t, p, nil); err == nil || !strings.Contains(err.Error(), "ended while") {
		t.Error(err)
	}
	p.Address = localhost(1)
	if _, err := carryOut(t, p, nil); err == nil {
		t.Error("connected to nobody")
	}
}

// The parts work as processes too.
func TestProcesses(t *testing.T) {
	t.Parallel()
	b := &bench{ctx: t.Context(), progress: t.Output()}
	server, err := b.peer("floor", serverCore)
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	m, err := b.load(server, plan{Sessions: spread(4, 2, "t"), Outstanding: 2, Window: 100 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.ready.Seconds <= 0 || m.done.Deliveries == 0 || m.done.Cut != 0 {
		t.Errorf("%+v", m)
	}
	if _, err := b.load(server, plan{Sessions: []session{{Topic: "realtime:x", Token: "t\r\n\r\n"}}, Outstanding: 1}, nil); err == nil {
		t.Error("a broken request was measured")
	}
}
