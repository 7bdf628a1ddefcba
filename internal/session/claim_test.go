package session

import (
	"testing"
	"time"
)

// What a track continues, by who sent it before, where that member stands, and how long the track has waited.
func TestWhoContinuesAStream(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	alice := func(s standing) holder { return holder{peer: "alice", standing: s, since: at(10)} }
	mallory := holder{peer: "mallory", standing: there, since: at(20)}
	asleep := func(peer string, s standing) holder { return holder{peer: peer, standing: s, asleep: true} }
	late := claim{peer: "bob", joined: at(30)}
	after := func(c claim, waited time.Duration) claim { c.waited = waited; return c }
	for name, tt := range map[string]struct {
		claim   claim
		holders []holder
		want    verdict
		which   int // of the holders
	}{
		"nobody has it": {late, nil, begins, 0},

		"its own, and it is there":               {claim{peer: "alice"}, []holder{alice(there)}, continues, 0},
		"its own, and its connection is down":    {claim{peer: "alice"}, []holder{alice(away)}, continues, 0},
		"its own after it had left":              {claim{peer: "alice", joined: at(40)}, []holder{alice(gone)}, continues, 0},
		"its own beside another's":               {claim{peer: "alice"}, []holder{mallory, alice(gone)}, continues, 1},
		"its own beside one it might inherit":    {claim{peer: "mallory", joined: at(15)}, []holder{alice(gone), mallory}, continues, 1},
		"its own though it was displaced":        {claim{peer: "alice", displaced: true}, []holder{alice(gone)}, continues, 0},
		"its own twice":                          {claim{peer: "alice"}, []holder{alice(there), alice(there)}, continues, 0},
		"its own asleep":                         {claim{peer: "alice"}, []holder{asleep("mallory", there), asleep("alice", there)}, continues, 1},
		"its own asleep, and open once more":     {claim{peer: "alice"}, []holder{alice(there), asleep("alice", there)}, continues, 0},
		"another's that is there":                {late, []holder{alice(there)}, waits, 0},
		"another's that is there, a while later": {after(late, claimTimeout), []holder{alice(there)}, begins, 0},
		"another's that is away":                 {after(late, claimTimeout), []holder{alice(away)}, waits, 0},
		"another's that is away for ever":        {after(late, ownerPatience), []holder{alice(away)}, begins, 0},
		"another's that is gone":                 {late, []holder{alice(gone)}, continues, 0},
		"another's asleep that is not back":      {late, []holder{asleep("alice", gone)}, continues, 0},
		"another's asleep that may be back soon": {late, []holder{asleep("alice", away)}, waits, 0},
		"another's asleep that is back":          {after(late, claimTimeout), []holder{asleep("alice", there)}, begins, 0},
		"another's that is being reopened":       {after(late, claimTimeout), []holder{{peer: "alice"}}, begins, 0},

		"another's that is gone, which came later":     {claim{peer: "bob", joined: at(5)}, []holder{alice(gone)}, begins, 0},
		"another's that is there, which came later":    {claim{peer: "bob", joined: at(5)}, []holder{alice(there)}, begins, 0},
		"another's that is gone, which came with it":   {claim{peer: "bob", joined: at(10)}, []holder{alice(gone)}, begins, 0},
		"another's that is gone, after it was its own": {claim{peer: "bob", joined: at(30), displaced: true}, []holder{alice(gone)}, begins, 0},

		"of two the one that is gone":      {after(late, claimTimeout), []holder{mallory, alice(gone)}, continues, 1},
		"of two one is gone and one away":  {late, []holder{alice(gone), {peer: "mallory", standing: away, since: at(20)}}, waits, 0},
		"of two that are gone neither":     {after(late, claimTimeout), []holder{alice(gone), {peer: "mallory", standing: gone, since: at(20)}}, begins, 0},
		"of two asleep and gone neither":   {late, []holder{asleep("alice", gone), asleep("mallory", gone)}, begins, 0},
		"of three that are gone none":      {late, []holder{alice(gone), asleep("carol", gone), asleep("mallory", gone)}, begins, 0},
		"of one open and gone, one asleep": {after(late, claimTimeout), []holder{alice(gone), asleep("mallory", there)}, continues, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, h := decide(tt.claim, tt.holders)
			if got != tt.want || (got == continues) != (h != nil) || h != nil && h != &tt.holders[tt.which] {
				t.Errorf("%v of %+v, want %v", got, h, tt.want)
			}
		})
	}
}
