package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// keys asks for the age of the fetched keys whenever the metrics are read.
type keys struct {
	ask atomic.Pointer[func() time.Duration]
}

var keysAge = prometheus.NewDesc("realtime_jwks_age_seconds",
	"Time since public keys were last fetched, of the address where that is longest ago; absent where none are fetched.", nil, nil)

// Describe and Collect make it a prometheus.Collector.
func (k *keys) Describe(to chan<- *prometheus.Desc) { to <- keysAge }

func (k *keys) Collect(to chan<- prometheus.Metric) {
	if ask := k.ask.Load(); ask != nil {
		to <- prometheus.MustNewConstMetric(keysAge, prometheus.GaugeValue, (*ask)().Seconds())
	}
}

// WatchKeys has the metrics ask how old the keys are.
func (m *Metrics) WatchKeys(age func() time.Duration) { m.keys.ask.Store(&age) }
