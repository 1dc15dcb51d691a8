// Package metricstest reads metrics as an operator would: by name and label, from the registry.
package metricstest

import "rowcast/server/metrics"

// TB is what it needs of a *testing.T.
type TB interface {
	Helper()
	Fatal(args ...any)
}

// Value is the sum over all series of a metric that have a label of this value ("": over all): of a histogram, how many
// values it has seen.
func Value(t TB, m *metrics.Metrics, name, label string) float64 {
	t.Helper()
	value, _ := read(t, m, name, label)
	return value
}

// Sum is the sum of the values that a histogram has seen.
func Sum(t TB, m *metrics.Metrics, name string) float64 {
	t.Helper()
	_, sum := read(t, m, name, "")
	return sum
}

func read(t TB, m *metrics.Metrics, name, label string) (value, sum float64) {
	t.Helper()
	families, err := m.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, series := range family.GetMetric() {
			matches := label == ""
			for _, pair := range series.GetLabel() {
				matches = matches || pair.GetValue() == label
			}
			if matches {
				histogram := series.GetHistogram()
				value += series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(histogram.GetSampleCount())
				sum += histogram.GetSampleSum()
			}
		}
	}
	return value, sum
}
