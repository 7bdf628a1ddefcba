package session

import (
	"testing"
	"time"

	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/sink"
)

// pathFaults are what befalls the way that media takes. However it is found
// again, that is as soon as there is one: the limits are the path's own.
var pathFaults = []fault{
	{name: "the path is cut for half a second", kept: true,
		want:   outcome{minGap: 500 * time.Millisecond, maxGap: 500 * time.Millisecond, reason: sink.ReasonLoss, path: true},
		strike: func(r *rig, _ *member.Member) { r.cutFor(500 * time.Millisecond) }},
	cutFault(1500 * time.Millisecond),
	cutFault(5 * time.Second),
	cutFault(9 * time.Second),
	cutFault(14 * time.Second), // while ICE restarts
	cutFault(20 * time.Second),
	cutFault(60 * time.Second),
	{name: "a member changes networks and restarts ICE", kept: true, want: outcome{minGap: 3 * time.Second, maxGap: 3500 * time.Millisecond, path: true},
		strike: func(r *rig, a *member.Member) {
			r.move()
			time.Sleep(3 * time.Second)
			a.RestartICE()
		}},
	{name: "a member changes networks and does nothing", kept: true, window: time.Minute, want: outcome{minGap: 8 * time.Second, maxGap: pathGap, path: true},
		strike: func(r *rig, _ *member.Member) { r.move() }, calm: 20 * time.Second},
	{name: "both are cut off from the service and from each other", window: time.Minute, want: outcome{minGap: 8 * time.Second, maxGap: 20 * time.Second, path: true}, // the next attempt to connect may be 8 s away
		strike: func(r *rig, a *member.Member) {
			r.server.Refuse(503)
			r.server.Drop(r.bot(), devserver.Drop{})
			r.server.Drop(a.ID(), devserver.Drop{})
			r.cutFor(8 * time.Second)
			r.server.Refuse(0)
		}, calm: 30 * time.Second},
}

// cutFault lets nothing through for a while. A member whose media is away for
// 20 s is asked for a connection of its own.
func cutFault(d time.Duration) fault {
	return fault{
		name: "the path is cut for " + d.String(), kept: d < mediaPatience, window: 2 * time.Minute,
		want:   outcome{minGap: d, maxGap: d + 500*time.Millisecond, path: true},
		strike: func(r *rig, _ *member.Member) { r.cutFor(d) },
	}
}

func TestAStreamKeepsItsFilesWhenThePathFails(t *testing.T) { strikeEach(t, pathFaults) }
