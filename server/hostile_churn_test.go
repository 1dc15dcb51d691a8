package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// openFiles is how many this process has; 0 where that cannot be told.
func openFiles() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list)
}

// Connections that come and go in every way leave nothing behind. Not beside other tests: this counts what the whole process
// has.
func TestConnectionChurn(t *testing.T) {
	r, bystanders := underAttack(t, func(c *Config) { c.MaxJoinsPerSecond = 0 })
	tok := token(t, "evil", "authenticated", nil)
	open := func(c *raw) {
		c.write([]byte(upgradeRequest(socketPath+tok, "")))
		if got, err := http.ReadResponse(c.r, nil); err != nil || got.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("handshake: %v %v", got, err)
		}
	}
	toTheEnd := func(c *raw) { _, _ = io.Copy(io.Discard, c.r) }
	join := func(c *raw, private bool) {
		c.message(fmt.Sprintf(`["1","1","realtime:churn","phx_join",{"config":{"private":%v}}]`, private))
	}
	reset := func(c *raw) { _ = c.conn.(*net.TCPConn).SetLinger(0) }
	ways := []func(*raw){
		func(c *raw) {},
		reset,
		func(c *raw) { c.write([]byte(upgradeRequest(socketPath+tok, "")[:60])) },
		func(c *raw) { c.write([]byte(upgradeRequest(socketPath+tok, "")[:60])); reset(c) },
		func(c *raw) { c.write([]byte(upgradeRequest(socketPath+tok, ""))) }, // gone before the answer
		func(c *raw) { c.write([]byte(upgradeRequest(socketPath+tok, ""))); reset(c) },
		func(c *raw) { c.write([]byte(upgradeRequest(socketPath+"x", ""))); _, _ = c.r.ReadByte() },
		open,
		func(c *raw) { open(c); reset(c) },
		func(c *raw) { open(c); c.write(clientFrame(fin|opText, `[null,`)[:8]); reset(c) },
		func(c *raw) { open(c); c.write(clientFrame(opText, `[null,`)) },
		func(c *raw) { open(c); join(c, false); reset(c) },
		func(c *raw) { open(c); join(c, false); _, _, _ = c.next() },
		func(c *raw) { open(c); join(c, true) }, // the decision finds nobody
		func(c *raw) { open(c); join(c, true); reset(c) },
		func(c *raw) { open(c); join(c, true); join(c, true); join(c, false) },
		func(c *raw) { open(c); c.write(clientFrame(fin|opClose, closeOf(1000, ""))); toTheEnd(c) },
		func(c *raw) { open(c); c.write(clientFrame(fin|opPing, "x")); reset(c) },
		func(c *raw) { open(c); c.write(clientFrame(fin|0x70, "")); toTheEnd(c) },
	}
	round := func(connects int) {
		var group sync.WaitGroup
		next := make(chan int)
		for range 8 {
			group.Go(func() {
				for i := range next {
					conn, err := net.Dial("tcp", r.public.Addr().String())
					if err != nil {
						t.Error(err)
						continue
					}
					ways[i%len(ways)](newRaw(t, conn))
					conn.Close()
				}
			})
		}
		for i := range connects {
			next <- i
		}
		close(next)
		group.Wait()
		r.await("the sockets to be forgotten", func() bool { return r.sockets.Count() == 2 })
		r.await("the channels to be gone", func() bool { return counter(t, r, "realtime_channels") == 2 })
	}
	settle := func() (files, goroutines int) {
		for still := 0; still < 20; still++ { // what ends takes a moment
			time.Sleep(5 * time.Millisecond)
			if f, g := openFiles(), runtime.NumGoroutine(); f != files || g != goroutines {
				files, goroutines, still = f, g, 0
			}
		}
		return files, goroutines
	}
	round(20 * len(ways)) // so that the pool is as large as it gets
	files, goroutines := settle()
	connects := hostileCount(t, "HOSTILE_CONNECTS", 1500)
	round(connects)
	bystanders.undisturbed("churn")
	r.await("files and goroutines to be as few as before", func() bool {
		f, g := openFiles(), runtime.NumGoroutine()
		return f <= files+r.config.PoolSize && g <= goroutines+r.config.PoolSize // which the pool may still open
	})
	f, g := settle()
	t.Logf("%d connections: %d files and %d goroutines before, %d and %d after", connects, files, goroutines, f, g)
}
