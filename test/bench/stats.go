package bench

import (
	"fmt"
	"slices"
	"time"
)

// samples are the values of one measurement, one for each repetition.
type samples []float64

// median, and the least and greatest value as spread.
func (s samples) median() float64 { return s.quantile(0.5) }

func (s samples) quantile(q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// String is the median with its spread.
func (s samples) String() string {
	if len(s) == 0 {
		return "-"
	}
	m := number(s.median())
	if len(s) == 1 {
		return m
	}
	return fmt.Sprintf("%s (%s-%s)", m, number(slices.Min(s)), number(slices.Max(s)))
}

// number writes three significant digits.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// millis gives a quantile of latencies in milliseconds.
func millis(latencies []time.Duration, q float64) float64 {
	if len(latencies) == 0 {
		return 0
	}
	slices.Sort(latencies)
	return float64(latencies[int(q*float64(len(latencies)-1))]) / float64(time.Millisecond)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
