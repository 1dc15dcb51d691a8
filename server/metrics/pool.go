package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// PoolStats is what the pool of database connections says of itself.
type PoolStats struct {
	Busy, Idle, Max int           // connections
	Waits           int64         // how often one had to be waited for, because all were busy or a new one was made
	Waited          time.Duration // and for how long, all together
}

// pool asks for PoolStats whenever the metrics are read.
type pool struct {
	ask                             atomic.Pointer[func() PoolStats]
	connections, max, waits, waited *prometheus.Desc
}

func newPool() *pool {
	return &pool{
		connections: prometheus.NewDesc("realtime_pool_connections", "Database connections of the pool.", []string{"state"}, nil),
		max:         prometheus.NewDesc("realtime_pool_connections_max", "The most database connections that the pool opens.", nil, nil),
		waits:       prometheus.NewDesc("realtime_pool_waits_total", "Times that a connection had to be waited for.", nil, nil),
		waited:      prometheus.NewDesc("realtime_pool_wait_seconds_total", "Time that was waited for connections.", nil, nil),
	}
}

// Describe and Collect make it a prometheus.Collector.
func (p *pool) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.connections, p.max, p.waits, p.waited} {
		to <- d
	}
}

func (p *pool) Collect(to chan<- prometheus.Metric) {
	ask := p.ask.Load()
	if ask == nil {
		return
	}
	s := (*ask)()
	to <- prometheus.MustNewConstMetric(p.connections, prometheus.GaugeValue, float64(s.Busy), "busy")
	to <- prometheus.MustNewConstMetric(p.connections, prometheus.GaugeValue, float64(s.Idle), "idle")
	to <- prometheus.MustNewConstMetric(p.max, prometheus.GaugeValue, float64(s.Max))
	to <- prometheus.MustNewConstMetric(p.waits, prometheus.CounterValue, float64(s.Waits))
	to <- prometheus.MustNewConstMetric(p.waited, prometheus.CounterValue, s.Waited.Seconds())
}

// WatchPool has the metrics ask a pool.
func (m *Metrics) WatchPool(stats func() PoolStats) { m.pool.ask.Store(&stats) }
