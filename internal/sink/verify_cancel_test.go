package sink

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// An interrupt ends Verify wherever it is: between recordings, and in the middle of a file that takes
// minutes to read. What it found before is in the report, which is not good.
func TestAnInterruptEndsVerifyInTheMiddleOfAFile(t *testing.T) {
	why := errors.New("interrupted")
	for name, huge := range map[string]string{"sound": audioPart, "pictures": videoPart, "no file at all": ""} {
		v := soundRecording(t)
		if huge != "" {
			f, err := v.dir.OpenFile(huge, 2, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(f.Truncate(1<<40), f.Close()); err != nil { // sparse
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		begun := time.Now()
		if huge == "" {
			cancel(why)
		} else {
			time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
		}
		report, err := Verify(ctx, filepath.Dir(filepath.Join(v.root, v.store.Dir())), nil)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("%s: took %v", name, took)
		}
		if !errors.Is(err, why) || report.OK || len(report.Recordings) != 0 {
			t.Errorf("%s: %+v %v", name, report, err)
		}
	}
}

// The recordings that were read before an interrupt are in the report.
func TestAnInterruptedVerifyReportsWhatItRead(t *testing.T) {
	v := soundRecording(t)
	root := tempRoot(t)
	for _, channel := range []string{"a", "b", "c"} {
		tempStore(t, root, newManifest(channel))
	}
	ctx, cancel := context.WithCancel(t.Context())
	report, err := Verify(ctx, root.Name(), func(RecordingReport) { cancel() })
	if !errors.Is(err, context.Canceled) || report.OK || len(report.Recordings) != 1 {
		t.Errorf("%+v %v", report, err)
	}
	if report, err := Verify(t.Context(), v.root, nil); err != nil || !report.OK {
		t.Errorf("without one: %+v %v", report, err)
	}
}
