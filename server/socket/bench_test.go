package socket

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// BenchmarkIdleMemory reports what one idle socket keeps, after it has received and sent something. The clients live
// in the same process, and are counted apart: a connection each, without goroutine or buffer.
func BenchmarkIdleMemory(b *testing.B) {
	const n = 2000
	for b.Loop() {
		r := newRig(b, Options{}, echoing)
		addr := r.listen(b)
		before := inUse()
		conns := make([]net.Conn, n)
		hello := masked(0x81, strings.Repeat("x", 500))
		answer := make([]byte, len(text(strings.Repeat("x", 500))))
		for i := range conns {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			conns[i] = conn
			fmt.Fprint(conn, handshake(""))
			// One byte at a time up to the empty line, so that no buffer stays behind.
			for end := 0; end < 4; {
				var one [1]byte
				if _, err := io.ReadFull(conn, one[:]); err != nil {
					b.Fatal(err)
				}
				if one[0] == "\r\n\r\n"[end] {
					end++
				} else {
					end = 0
				}
			}
			conn.Write(hello)
			if _, err := io.ReadFull(conn, answer); err != nil {
				b.Fatal(err)
			}
		}
		after := inUse()
		clientSide := bareClients(b, n)
		b.ReportMetric(float64(after.total-before.total-clientSide)/n, "B/socket")
		b.ReportMetric(float64(after.stack-before.stack)/n, "stackB/socket")
		for _, c := range conns {
			c.Close()
		}
		r.Close()
	}
}

type memory struct{ total, stack uint64 }

func inUse() memory {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memory{m.HeapInuse + m.StackInuse, m.StackInuse}
}

// bareClients measures n dialled connections whose other end was accepted and is left alone, and halves it.
func bareClients(b *testing.B, n int) uint64 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	before := inUse()
	var conns []net.Conn
	for range n {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		conns = append(conns, c, s)
	}
	after := inUse()
	for _, c := range conns {
		c.Close()
	}
	return (after.total - before.total) / 2
}

// fanout is one way to give each of many clients the same message.
type fanout struct {
	send func()
	n    int
}

const fanoutClients = 500

// BenchmarkFanout compares giving one frame to 500 clients with doing it through the library's Conn.Write, in turns
// within the same run. A burst is how many messages follow each other before the clients have caught up. The ratio is
// what one delivery costs the library's way over what it costs ours, wall clock, the clients' reading included.
func BenchmarkFanout(b *testing.B) {
	payload := strings.Repeat("x", 200)
	for _, burst := range []int{1, 16} {
		b.Run(fmt.Sprint("burst=", burst), func(b *testing.B) {
			arrived := new(counter)
			ours := oursTo(b, arrived, payload)
			plain := plainTo(b, arrived, payload)
			round := func(f fanout) time.Duration {
				begin := time.Now()
				done := arrived.after(int64(f.n * burst * len(text(payload))))
				for range burst {
					f.send()
				}
				<-done
				return time.Since(begin)
			}
			var us, them time.Duration
			rounds := 0
			for b.Loop() {
				us += round(ours)
				them += round(plain)
				rounds++
			}
			per := float64(rounds * burst * fanoutClients)
			b.ReportMetric(float64(us.Nanoseconds())/per, "ns/delivery")
			b.ReportMetric(float64(them.Nanoseconds())/per, "plain-ns/delivery")
			b.ReportMetric(float64(them)/float64(us), "ratio")
		})
	}
}

// counter counts bytes that arrived at all clients, and tells when the awaited number has.
type counter struct {
	left atomic.Int64
	done chan struct{}
}

func (c *counter) after(n int64) <-chan struct{} {
	c.done = make(chan struct{})
	c.left.Store(n)
	return c.done
}

func (c *counter) drain(conn net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 && c.left.Add(int64(-n)) == 0 {
			close(c.done)
		}
		if err != nil {
			return
		}
	}
}

func dialAll(b *testing.B, addr string, arrived *counter) {
	var wg sync.WaitGroup
	b.Cleanup(wg.Wait) // runs after dial's own, which close the connections
	for range fanoutClients {
		c := dial(b, addr)
		wg.Go(func() { arrived.drain(c.conn) })
	}
}

func oursTo(b *testing.B, arrived *counter, payload string) fanout {
	r := newRig(b, Options{MaxQueueBytes: 1 << 20, IdleTimeout: -1})
	dialAll(b, r.listen(b), arrived)
	var conns []*Conn
	for range fanoutClients {
		conns = append(conns, (<-r.sessions).conn)
	}
	return fanout{n: fanoutClients, send: func() {
		f := text(payload)
		for _, c := range conns {
			if !c.Send(f) {
				b.Fatal("refused")
			}
		}
	}}
}

func plainTo(b *testing.B, arrived *counter, payload string) fanout {
	conns := make(chan *websocket.Conn, fanoutClients)
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			b.Error(err)
			return
		}
		conns <- c
	}))
	b.Cleanup(hs.Close)
	dialAll(b, hs.Listener.Addr().String(), arrived)
	var list []*websocket.Conn
	for range fanoutClients {
		c := <-conns
		list = append(list, c)
		b.Cleanup(func() { c.CloseNow() })
	}
	ctx, message := context.Background(), []byte(payload)
	return fanout{n: fanoutClients, send: func() {
		for _, c := range list {
			if err := c.Write(ctx, websocket.MessageText, message); err != nil {
				b.Fatal(err)
			}
		}
	}}
}

// BenchmarkGather compares the two ways to write a batch of frames in one call: copied together, or given to writev.
func BenchmarkGather(b *testing.B) {
	for _, size := range []int{100, 300, 1000, 4000} {
		for _, frames := range []int{2, 8, 32} {
			if frames*size > gatherBytes {
				continue
			}
			list := make([][]byte, frames)
			for i := range list {
				list[i] = make([]byte, size)
			}
			for name, write := range map[string]func(net.Conn) error{
				"copy": func(c net.Conn) error {
					bt := batches.Get().(*batch)
					bt.frames = append(bt.frames[:0], list...)
					_, err := c.Write(bt.join())
					bt.release()
					return err
				},
				"writev": func(c net.Conn) error {
					bufs := net.Buffers(append([][]byte(nil), list...))
					_, err := bufs.WriteTo(c)
					return err
				},
			} {
				b.Run(fmt.Sprintf("%dx%d/%s", frames, size, name), func(b *testing.B) {
					conn := sink(b)
					b.ReportAllocs()
					for b.Loop() {
						if err := write(conn); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

// sink is a loopback connection whose other end reads everything away.
func sink(b *testing.B) net.Conn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.Copy(io.Discard, bufio.NewReaderSize(c, 1<<20))
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(); <-done })
	return conn
}
