package sink

import (
	"context"
	"testing"
	"time"
	"unsafe"
)

// stepped is t as read after someone has set the wall clock: its monotonic
// reading is what it would have been. Package time has no way to make one; it
// keeps the seconds of wall time above bit 30 of its first word.
func stepped(t time.Time, by time.Duration) time.Time {
	word := (*uint64)(unsafe.Pointer(&t))
	*word += uint64(int64(by/time.Second)) << 30
	return t
}

// Positions are made of arrivals, and those of a clock that no one sets.
func TestAStepOfTheLocalClockMovesNoPacket(t *testing.T) {
	root, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	start := time.Now()
	rec, err := root.newRecording(RecordingInfo{Channel: "room", Start: start}) // not pumped
	if err != nil {
		t.Fatal(err)
	}
	stream, err := rec.Stream(StreamInfo{PeerID: "alice", StreamID: "camera"})
	if err != nil {
		t.Fatal(err)
	}
	src := stream.Track(TrackInfo{ID: "1", Kind: audio}).NewSource(SourceInfo{
		Formats: map[uint8]Format{ptOpus: {MimeType: "audio/opus", ClockRate: 48000, Channels: 2}},
	})
	steps := []time.Duration{0, time.Hour, -time.Hour, time.Second}
	for i, step := range steps {
		arrival := stepped(start.Add(time.Duration(i)*time.Second), step)
		if arrival.Round(0).Sub(start.Round(0)) != time.Duration(i)*time.Second+step {
			t.Fatal("package time keeps its readings otherwise than this test knows")
		}
		src.WriteRTP(rtpPacket(ptOpus, false, uint16(i), uint32(i), 7, tone(uint16(i))), arrival)
	}
	for i, p := range src.inbox {
		if want := time.Duration(i) * time.Second; p.arrival != want {
			t.Errorf("after a step of %v a packet arrived at %v, want %v", steps[i], p.arrival, want)
		}
	}
	if len(src.inbox) != len(steps) {
		t.Errorf("%d packets arrived", len(src.inbox))
	}
	go rec.pump()
	rec.savers.Go(rec.saver)
	if err := rec.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}
