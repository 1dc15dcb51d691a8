package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// repeated writes the same bytes n times, many at once.
func (c *raw) repeated(b []byte, n int) bool {
	const together = 1000
	chunk := bytes.Repeat(b, min(n, together))
	for ; n > 0; n -= together {
		if !c.write(chunk[:min(n, together)*len(b)]) {
			return false
		}
	}
	return true
}

// However much of it comes, what is legal is read and answered, and costs others nothing.
func TestFloods(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, nil)
	tok := token(t, "evil", "authenticated", nil)
	n := hostileCount(t, "HOSTILE_FLOOD", 10_000)
	const head, tail = `[null,"f","phoenix","heartbeat",{`, `}]`
	answered := func(c *raw) {
		if status, response := c.reply("f"); status != "ok" {
			t.Errorf("heartbeat in pieces: %s", response)
		}
	}
	for _, tt := range []struct {
		name  string
		flood func(*raw)
		ends  int // with this close code; 0: lives on
	}{
		{"empty fragments", func(c *raw) {
			c.write(clientFrame(opText, head))
			c.repeated(clientFrame(opContinuation, ""), n)
			c.write(clientFrame(fin|opContinuation, tail))
			answered(c)
		}, 0},
		{"fragments of a byte", func(c *raw) {
			c.write(clientFrame(opText, head))
			c.repeated(clientFrame(opContinuation, " "), n)
			c.write(clientFrame(fin|opContinuation, tail))
			answered(c)
		}, 0},
		{"fragments of a byte beyond the limit", func(c *raw) {
			c.write(clientFrame(opText, strings.Repeat(" ", 5_000_000)))
			c.repeated(clientFrame(opContinuation, " "), n)
		}, 1009},
		{"empty messages", func(c *raw) { c.repeated(clientFrame(fin|opText, ""), n) }, 0},
		{"messages that cannot be read", func(c *raw) { c.repeated(clientFrame(fin|opText, `{"`), n) }, 0},
		{"pongs that nobody asked for", func(c *raw) { c.repeated(clientFrame(fin|opPong, strings.Repeat("p", 125)), n) }, 0},
		{"pings between fragments", func(c *raw) {
			c.write(clientFrame(opText, head))
			c.repeated(append(clientFrame(fin|opPing, ""), clientFrame(opContinuation, " ")...), n/2)
			c.write(clientFrame(fin|opContinuation, tail))
			answered(c)
		}, 0},
		{"pings whose answers are read late", func(c *raw) {
			c.repeated(clientFrame(fin|opPing, strings.Repeat("p", 125)), n)
			c.write(clientFrame(fin|opPing, "last"))
			for {
				op, payload, err := c.next()
				if err != nil || op != opPong {
					t.Fatalf("opcode %#x %q %v", op, payload, err)
				}
				if string(payload) == "last" {
					return
				}
			}
		}, 0},
		{"closes", func(c *raw) { c.repeated(clientFrame(fin|opClose, closeOf(4000, "")), n) }, 4000},
	} {
		c := r.upgrade(tok)
		tt.flood(c)
		if tt.ends == 0 {
			c.alive(tt.name)
		} else if code := c.ended(); code != tt.ends && code != 0 { // 0: our own flood has reset the connection
			t.Errorf("%s: closed with %d, want %d", tt.name, code, tt.ends)
		}
		bystanders.undisturbed(tt.name)
		c.conn.Close()
	}
}

// upgradeDeaf is upgrade for a client that will not read: its kernel takes little.
func (r *running) upgradeDeaf(tok string) *raw {
	r.t.Helper()
	c := r.connect()
	_ = c.conn.(*net.TCPConn).SetReadBuffer(16 << 10) // before the handshake, or the kernel has promised more already
	c.write([]byte(upgradeRequest(socketPath+tok, "")))
	if got := c.response(); got.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatalf("handshake answered %s", got.Status)
	}
	return c
}

// Who asks and never reads the answers is closed as a slow reader, and told so where it reads at last.
func TestAnswersThatAreNeverRead(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, nil)
	c := r.upgradeDeaf(token(t, "evil", "authenticated", nil))
	push := clientFrame(fin|opText, fmt.Sprintf(`["1","1",%q,"broadcast",{}]`, strings.Repeat("x", 50_000)))
	for range 400 { // 20 MB: more than kernels keep for both sides, and the queue
		c.write(push)
	}
	if code := c.ended(); code != 1013 && code != 0 {
		t.Errorf("closed with %d, want 1013", code)
	}
	r.await("the close to be counted", func() bool { return labelled(t, r, "realtime_sockets_closed_total", "slow_reader") == 1 })
	bystanders.undisturbed("a client that never reads")
}

// A member who never reads is closed for it; the others of the same room hear everything meanwhile.
func TestMemberThatNeverReads(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, func(c *Config) { c.MaxBytesPerSecond = 0 })
	from, to := r.dial(token(t, "good1", "authenticated", nil)), r.dial(token(t, "good2", "authenticated", nil))
	joinRef, _, _ := from.join("open", map[string]any{"broadcast": map[string]any{"ack": true}})
	to.join("open", nil)
	c := r.upgradeDeaf(token(t, "evil", "authenticated", nil))
	c.message(`["1","1","realtime:open","phx_join",{}]`)
	c.reply("1")
	padding := strings.Repeat("x", 100_000)
	before := counter(t, r, "realtime_deliveries_total")
	const sent = 40 // more than the kernels keep for both sides, and the queue
	for i := range sent {
		event := fmt.Sprint("padded", i)
		ref := from.push(joinRef, "realtime:open", "broadcast", map[string]any{"event": event, "payload": padding})
		if status, response := from.reply(ref); status != "ok" {
			t.Fatalf("broadcast %d: %s", i, response)
		}
		to.wait("a broadcast", func(f frame) bool { return bytes.HasPrefix(f.Payload, []byte(`{"event":"`+event+`"`)) })
	}
	r.await("all to be handed out, or the end of the member", func() bool {
		return counter(t, r, "realtime_deliveries_total")-before >= 2*sent || labelled(t, r, "realtime_sockets_closed_total", "slow_reader") == 1
	})
	if code := c.ended(); code != 1013 && code != 0 { // 0: it has not read in time either
		t.Errorf("the member who never reads: closed with %d, want 1013", code)
	}
	r.await("the close to be counted", func() bool { return labelled(t, r, "realtime_sockets_closed_total", "slow_reader") == 1 })
	if n := count(to, isEvent("open", "broadcast")); n != sent {
		t.Errorf("the other member heard %d of %d", n, sent)
	}
	bystanders.undisturbed("a member who never reads")
}

// heapInUse is what lives on the heap.
func heapInUse() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and pools let go of
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Memory follows what has come, never what is announced. Not beside other tests: this counts the whole process's memory.
func TestMemoryUnderAttack(t *testing.T) {
	r, bystanders := underAttack(t, nil)
	tok := token(t, "evil", "authenticated", nil)
	bystanders.undisturbed("nothing")
	const sockets = 20
	for _, tt := range []struct {
		name string
		send func(*raw)
		each int // bytes that a socket may cost, our own side of it included
	}{
		{"2^62 bytes announced", func(c *raw) { c.write(clientHeader(fin|opText, 1<<62)) }, 64 << 10},
		{"2^62 bytes announced, in a fragment", func(c *raw) { c.write(append(clientFrame(opBinary, ""), clientHeader(opContinuation, 1<<62)...)) }, 64 << 10},
		{"half a header", func(c *raw) { c.write(clientHeader(fin|opText, 1<<62)[:5]) }, 64 << 10},
		{"half a message", func(c *raw) { c.write(append(clientHeader(fin|opText, 1_000_000), make([]byte, 500_000)...)) }, 2 << 20},
		{"a message refused", func(c *raw) {
			c.write(clientFrame(fin|opText, `["1","1","realtime:`+strings.Repeat("x", 500_000)+`","phx_join",{}]`))
			_, _, _ = c.next()
		}, 64 << 10},
		{"a leave with a payload, while the join waits", func(c *raw) {
			c.message(`["1","1","realtime:slow","phx_join",{"config":{"private":true}}]`)
			c.message(`["1","2","realtime:slow","phx_leave","` + strings.Repeat("x", 500_000) + `"]`)
			c.alive("the leave")
		}, 96 << 10},
	} {
		if strings.Contains(tt.name, "waits") {
			r.exec(`create policy slow on realtime.messages for select to authenticated using (realtime.topic() = 'slow' and (select pg_sleep(1)) is null)`)
		}
		before := heapInUse()
		attackers := make([]*raw, sockets)
		for i := range attackers {
			attackers[i] = r.upgrade(tok)
			tt.send(attackers[i])
		}
		bystanders.undisturbed(tt.name)
		if used := heapInUse() - before; used > sockets*tt.each {
			t.Errorf("%s: %d bytes a socket, at most %d", tt.name, used/sockets, tt.each)
		} else {
			t.Logf("%s: %d bytes a socket", tt.name, used/sockets)
		}
		for _, c := range attackers {
			_ = c.conn.(*net.TCPConn).SetLinger(0)
			c.conn.Close()
		}
		r.await("the attackers to be gone", func() bool { return r.sockets.Count() == 2 })
	}
}
