package bench

import (
	"cmp"
	"slices"
	"time"
)

// Sample is what one round of load gave.
type Sample struct {
	Done    int           // requests answered as they should be
	Failed  int           // all others
	Elapsed time.Duration // wall clock
	CPU     time.Duration // of the measured process; zero when it is not apart
	P50     time.Duration
	P99     time.Duration
	Longest time.Duration
}

// PerSecond returns the answered requests per second.
func (s Sample) PerSecond() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Done) / s.Elapsed.Seconds()
}

// CPUPerRequest returns the measured process's CPU time for each answered request.
func (s Sample) CPUPerRequest() time.Duration {
	if s.Done == 0 {
		return 0
	}
	return s.CPU / time.Duration(s.Done)
}

// quantile returns the q-quantile of sorted values by the nearest rank; zero when there are none.
func quantile[T any](sorted []T, q float64) T {
	var zero T
	if len(sorted) == 0 {
		return zero
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// Median returns the median of key over samples.
func Median[T cmp.Ordered](samples []Sample, key func(Sample) T) T {
	values := make([]T, len(samples))
	for i, s := range samples {
		values[i] = key(s)
	}
	slices.Sort(values)
	return quantile(values, 0.5)
}

// WithLatencies returns s with P50, P99 and Longest from the durations of single requests, which it sorts.
func (s Sample) WithLatencies(all []time.Duration) Sample {
	slices.Sort(all)
	s.P50, s.P99, s.Longest = quantile(all, 0.50), quantile(all, 0.99), quantile(all, 1)
	return s
}
