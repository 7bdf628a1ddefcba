package remote

import (
	"fmt"
	"slices"
	"testing"
)

func TestNegotiationEdges(t *testing.T) {
	const yes = true
	for _, edge := range []struct {
		name  string
		from  negotiation
		event negotiationEvent
		to    negotiation
		do    negotiationAction
	}{
		{"offer wanted, stable", negotiation{}, offerWanted, negotiation{pending: yes}, doOffer},
		{"offer wanted, negotiated", negotiation{negotiated: yes}, offerWanted, negotiation{pending: yes, negotiated: yes}, doOffer},
		{"offer wanted, offer out", negotiation{pending: yes}, offerWanted, negotiation{pending: yes}, doNothing},
		{"first offer", negotiation{}, offerReceived, negotiation{negotiated: yes}, doAnswer},
		{"later offer", negotiation{negotiated: yes}, offerReceived, negotiation{negotiated: yes}, doAnswer},
		{"offer after an ignored one", negotiation{negotiated: yes, ignoring: yes}, offerReceived, negotiation{negotiated: yes}, doAnswer},
		{"glare, impolite", negotiation{pending: yes}, offerReceived, negotiation{pending: yes, ignoring: yes}, doIgnore},
		{"glare, impolite, negotiated", negotiation{pending: yes, negotiated: yes}, offerReceived, negotiation{pending: yes, negotiated: yes, ignoring: yes}, doIgnore},
		{"glare, polite, first", negotiation{polite: yes, pending: yes}, offerReceived, negotiation{polite: yes, negotiated: yes}, doSwapAnswer},
		{"glare, polite, negotiated", negotiation{polite: yes, pending: yes, negotiated: yes}, offerReceived, negotiation{polite: yes, negotiated: yes}, doRollbackAnswer},
		{"fresh offer, stable", negotiation{negotiated: yes}, freshReceived, negotiation{negotiated: yes}, doSwapAnswer},
		{"fresh offer, offer out, impolite", negotiation{pending: yes, negotiated: yes}, freshReceived, negotiation{negotiated: yes}, doSwapAnswer},
		{"fresh offer, offer out, polite", negotiation{polite: yes, pending: yes, negotiated: yes}, freshReceived, negotiation{polite: yes, negotiated: yes}, doSwapAnswer},
		{"answer", negotiation{pending: yes}, answerReceived, negotiation{negotiated: yes}, doApplyAnswer},
		{"answer after an ignored offer", negotiation{pending: yes, ignoring: yes}, answerReceived, negotiation{negotiated: yes}, doApplyAnswer},
		{"answer to nothing", negotiation{negotiated: yes}, answerReceived, negotiation{negotiated: yes}, doIgnore},
		{"no answer, first offer", negotiation{pending: yes}, answerMissing, negotiation{}, doSwap},
		{"no answer, negotiated", negotiation{pending: yes, negotiated: yes, ignoring: yes}, answerMissing, negotiation{negotiated: yes}, doRollback},
		{"no answer, none expected", negotiation{negotiated: yes}, answerMissing, negotiation{negotiated: yes}, doNothing},
	} {
		t.Run(edge.name, func(t *testing.T) {
			to, do := next(edge.from, edge.event)
			if to != edge.to || do != edge.do {
				t.Errorf("got %+v and action %d, want %+v and %d", to, do, edge.to, edge.do)
			}
		})
	}
}

// side is one of two machines that negotiate with each other.
type side struct {
	neg   negotiation
	wants int // offers still to be made
	made  int // how many were answered
	conn  int // generation of this side's connection
	peer  int // generation of the other's connection that was described to us, -1: none
}

// note is a description on its way.
type note struct {
	offer bool
	conn  int // of the sender
	to    int // connection an answer is for
}

// table is a position of the game: two sides and what is between them.
type table struct {
	sides [2]side
	wire  [2][]note // to side i, in order
}

func (t table) clone() table {
	t.wire[0], t.wire[1] = slices.Clone(t.wire[0]), slices.Clone(t.wire[1])
	return t
}

// step lets side i see an event, as the event loop would.
func (t *table) step(i int, e negotiationEvent, n note) error {
	s := &t.sides[i]
	if e == offerReceived && s.peer >= 0 && n.conn != s.peer {
		e = freshReceived
	}
	offering := s.neg.pending
	neg, do := next(s.neg, e)
	s.neg = neg
	send := func(n note) { t.wire[1-i] = append(t.wire[1-i], n) }
	switch do {
	case doOffer:
		send(note{offer: true, conn: s.conn})
	case doAnswer, doRollbackAnswer, doSwapAnswer:
		if do == doSwapAnswer {
			s.conn++
		}
		s.peer = n.conn
		send(note{conn: s.conn, to: n.conn})
	case doApplyAnswer:
		if n.to != s.conn {
			return fmt.Errorf("side %d applied an answer for connection %d to %d", i, n.to, s.conn)
		}
		s.peer = n.conn
		s.wants--
		s.made++
	case doIgnore:
		if n.offer && !offering {
			return fmt.Errorf("side %d ignored an offer without having one out", i)
		}
	}
	return nil
}

// moves are all positions that can follow.
func (t table) moves() (all []table, err error) {
	for i := range t.sides {
		if s := t.sides[i]; s.wants > 0 && !s.neg.pending {
			m := t.clone()
			err = m.step(i, offerWanted, note{})
			all = append(all, m)
		}
		if err == nil && len(t.wire[i]) > 0 {
			m := t.clone()
			n := m.wire[i][0]
			m.wire[i] = m.wire[i][1:]
			e := answerReceived
			if n.offer {
				e = offerReceived
			}
			err = m.step(i, e, n)
			all = append(all, m)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Two sides that want to offer up to twice each come to rest in every order
// of events: both stable, everything offered, and each talking to the other's
// living connection.
func TestTwoMachinesAgreeOverEveryInterleaving(t *testing.T) {
	for wantsA := range 3 {
		for wantsB := range 3 {
			seen := map[string]bool{}
			ends := 0
			var play func(table)
			play = func(pos table) {
				key := fmt.Sprint(pos)
				if seen[key] || t.Failed() {
					return
				}
				seen[key] = true
				moves, err := pos.moves()
				if err != nil {
					t.Errorf("%v in %s", err, key)
				}
				if len(moves) == 0 {
					ends++
					a, b := pos.sides[0], pos.sides[1]
					if a.neg.pending || b.neg.pending || a.made != wantsA || b.made != wantsB {
						t.Errorf("came to rest in %s", key)
					}
					if wantsA+wantsB > 0 && (a.peer != b.conn || b.peer != a.conn) {
						t.Errorf("sides hold on to dead connections in %s", key)
					}
				}
				for _, m := range moves {
					play(m)
				}
			}
			play(table{sides: [2]side{
				{neg: negotiation{polite: true}, wants: wantsA, peer: -1},
				{neg: negotiation{polite: false}, wants: wantsB, peer: -1},
			}})
			if ends == 0 {
				t.Errorf("wants %d and %d: no end was reached", wantsA, wantsB)
			}
		}
	}
}

func TestTheSmallerIDIsPolite(t *testing.T) {
	for _, c := range []struct {
		local, remote string
		want          bool
	}{{"a", "b", true}, {"b", "a", false}, {"Z", "a", true}, {"bot-1", "bot-10", true}, {"same", "same", false}} {
		if got := polite(c.local, c.remote); got != c.want {
			t.Errorf("polite(%q, %q) = %v", c.local, c.remote, got)
		}
	}
}

// FuzzNegotiation: no sequence of events makes the machine answer what it
// should not, or lose an offer.
func FuzzNegotiation(f *testing.F) {
	f.Add(true, []byte{0, 1, 3})
	f.Add(false, []byte{0, 1, 4, 1, 2, 3})
	f.Fuzz(func(t *testing.T, polite bool, events []byte) {
		s := negotiation{polite: polite}
		for _, b := range events {
			e := negotiationEvent(b % 5)
			to, do := next(s, e)
			if to.polite != polite {
				t.Fatal("politeness changed by itself")
			}
			if do == doOffer && (s.pending || !to.pending) {
				t.Fatalf("offer from %+v to %+v", s, to)
			}
			if do == doRollback || do == doRollbackAnswer {
				if !s.pending || !s.negotiated || to.pending {
					t.Fatalf("rollback from %+v to %+v", s, to)
				}
			}
			if (do == doAnswer || do == doSwapAnswer || do == doRollbackAnswer) && (to.pending || !to.negotiated) {
				t.Fatalf("answer from %+v to %+v", s, to)
			}
			if do == doApplyAnswer && !s.pending {
				t.Fatalf("answer applied in %+v", s)
			}
			s = to
		}
	})
}
