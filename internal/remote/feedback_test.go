package remote

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
)

func TestAPathThatStallsHoldsUpNobodyWhoAsksSomethingOfItsSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &feedback{requests: make(chan rtcp.Packet, maxRequests)}
		stalled, sent := make(chan struct{}), 0
		f.run(1, again, func(all []rtcp.ReceptionReport, _ time.Time) []rtcp.ReceptionReport { return all }, func(packets []rtcp.Packet) error {
			<-stalled
			sent += len(packets)
			return nil
		})
		defer f.close()
		refused := 0
		for range 2 * maxRequests { // in no time, or the test would not end
			if f.request(&rtcp.PictureLossIndication{}) != nil {
				refused++
			}
			synctest.Wait()
		}
		if refused != maxRequests-1 {
			t.Errorf("%d were refused", refused)
		}
		close(stalled)
		synctest.Wait()
		if sent != maxRequests+1 {
			t.Errorf("%d were sent", sent)
		}
		if err := f.request(&rtcp.PictureLossIndication{}); err != nil {
			t.Error(err)
		}
	})
}
