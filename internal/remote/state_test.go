package remote

import "testing"

func TestStatesFollowTheDiagram(t *testing.T) {
	allowed := map[State][]State{
		StateIdle:         {StateIdle, StateConnecting, StateConnected},
		StateConnecting:   {StateConnecting, StateConnected, StateReconnecting},
		StateConnected:    {StateConnected, StateReconnecting},
		StateReconnecting: {StateConnected, StateReconnecting},
		StateClosed:       {StateClosed},
	}
	for from, to := range allowed {
		for _, c := range []condition{dormant, negotiating, up, broken} {
			for _, signalling := range []bool{true, false} {
				got := from.next(c, signalling)
				ok := false
				for _, s := range to {
					ok = ok || s == got
				}
				if from == StateIdle && got == StateReconnecting {
					ok = c == broken
				}
				if !ok {
					t.Errorf("%v with condition %d, signalling %v: %v", from, c, signalling, got)
				}
			}
		}
	}
}

func TestConnectingHopOfARebuiltConnectionIsFiltered(t *testing.T) {
	s := StateConnected
	for _, step := range []struct {
		c    condition
		up   bool
		want State
	}{
		{up, false, StateReconnecting}, {dormant, true, StateReconnecting}, {negotiating, true, StateReconnecting},
		{up, true, StateConnected}, {broken, true, StateReconnecting}, {negotiating, true, StateReconnecting}, {up, true, StateConnected},
	} {
		if s = s.next(step.c, step.up); s != step.want {
			t.Fatalf("condition %d, signalling %v: %v, want %v", step.c, step.up, s, step.want)
		}
	}
}

func TestAnIdlePeerStaysIdleWhenSignallingDrops(t *testing.T) {
	if s := StateIdle.next(dormant, false); s != StateIdle {
		t.Errorf("state: %v", s)
	}
}

func TestStateNames(t *testing.T) {
	want := []string{"idle", "connecting", "connected", "reconnecting", "closed", "unknown"}
	for i, name := range want {
		if got := State(i).String(); got != name {
			t.Errorf("State(%d) = %q, want %q", i, got, name)
		}
	}
	if (State(0)) != StateIdle {
		t.Error("the zero State is not idle")
	}
}
