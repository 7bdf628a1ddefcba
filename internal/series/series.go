// Package series makes the samples of a scrape. With 40 members there are thousands that differ in one label or in none,
// and prometheus.NewConstMetric lays out, sorts and checks every label of each. Here the labels that samples share are
// laid out once.
package series

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Labels are names and values, in the order of the names. They are not changed once made.
type Labels []*dto.LabelPair

// With returns the labels and another, whose name none of them has.
func (l Labels) With(name, value string) Labels {
	at, _ := slices.BinarySearchFunc(l, name, func(pair *dto.LabelPair, name string) int { return strings.Compare(pair.GetName(), name) })
	more := make(Labels, 0, len(l)+1)
	more = append(more, l[:at]...)
	another := &struct {
		dto.LabelPair
		name, value string
	}{name: name, value: value}
	another.Name, another.Value = &another.name, &another.value
	more = append(more, &another.LabelPair)
	return append(more, l[at:]...)
}

// Gauge returns a sample of a gauge. The labels are those that desc names.
func Gauge(desc *prometheus.Desc, value float64, labels Labels) prometheus.Metric {
	s := &gauge{sample: sample{desc, labels, value}}
	s.dto.Value = &s.value
	return s
}

// Counter returns a sample of a counter. The labels are those that desc names.
func Counter(desc *prometheus.Desc, value float64, labels Labels) prometheus.Metric {
	s := &counter{sample: sample{desc, labels, value}}
	s.dto.Value = &s.value
	return s
}

type sample struct {
	desc   *prometheus.Desc
	labels Labels
	value  float64
}

func (s *sample) Desc() *prometheus.Desc { return s.desc }

type gauge struct {
	sample
	dto dto.Gauge
}

func (s *gauge) Write(out *dto.Metric) error {
	out.Label, out.Gauge = s.labels, &s.dto
	return nil
}

type counter struct {
	sample
	dto dto.Counter
}

func (s *counter) Write(out *dto.Metric) error {
	out.Label, out.Counter = s.labels, &s.dto
	return nil
}
