package remote

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/webrtc/v4"
)

// Why a candidate of the member is dropped, as label values.
const (
	dropLimit       = "limit"         // there are enough
	dropUfrag       = "ufrag"         // it is of other ICE credentials
	dropIgnored     = "ignored_offer" // it is of an offer that lost a collision
	dropRejected    = "rejected"      // it is malformed
	dropName        = "name"          // it has a name for an address
	dropUnsupported = "unsupported"   // it is not UDP, or of a type or component that we do not have
	dropAddress     = "address"       // we do not send to its address
)

var dropReasons = []string{
	dropLimit, dropUfrag, dropIgnored, dropRejected, dropName, dropUnsupported, dropAddress,
}

var errCandidate = errors.New("malformed candidate")

// checkedCandidate is a candidate of the member that passed every check.
type checkedCandidate struct {
	ufrag string // what it is for, "" if it does not say
	text  string // in our words
}

// candidateTypes are those of RFC 8839 §5.1.
var candidateTypes = []string{"host", "srflx", "prflx", "relay"}

// check reads a candidate and writes what pion may know of it anew: the
// transport address, the type and the priority. What else may stand in its
// text never reaches pion, so neither do names: pion takes some for addresses
// (pion/ice, names that end in ".invalid"). A name that hides an address
// (".local") we do not resolve: such a browser still reaches us, and becomes
// known as peer reflexive. reason says why the candidate is dropped, and is ""
// if it is not; err is not nil if that is for being malformed.
func (r *addressRules) check(init webrtc.ICECandidateInit) (
	c checkedCandidate, reason string, err error,
) {
	_, rest, _ := strings.Cut(strings.TrimPrefix(init.Candidate, "candidate:"), " ")
	f := strings.Fields(rest) // all but the foundation
	if len(f) < 7 || f[5] != "typ" {
		return c, dropRejected, fmt.Errorf("%w: %d fields", errCandidate, len(f))
	}
	component, err := strconv.ParseUint(f[0], 10, 16)
	if err != nil {
		return c, dropRejected, fmt.Errorf("%w: component", errCandidate)
	}
	priority, err := strconv.ParseUint(f[2], 10, 32)
	if err != nil {
		return c, dropRejected, fmt.Errorf("%w: priority", errCandidate)
	}
	port, err := strconv.ParseUint(f[4], 10, 16)
	if err != nil {
		return c, dropRejected, fmt.Errorf("%w: port", errCandidate)
	}
	if component != 1 || !strings.EqualFold(f[1], "udp") || !slices.Contains(candidateTypes, f[6]) {
		return c, dropUnsupported, nil
	}
	addr, err := netip.ParseAddr(f[3])
	if err != nil {
		return c, dropName, nil
	}
	if port == 0 || !r.allow(addr) {
		return c, dropAddress, nil
	}
	text := fmt.Sprintf("candidate:1 1 udp %d %s %d typ %s", priority, addr.Unmap(), port, f[6])
	return checkedCandidate{ufrag: strings.Clone(candidateUfrag(init)), text: text}, "", nil
}

// candidateUfrag returns the user name fragment a candidate is for, "" if it
// names none. What its text says goes before its field, as libwebrtc has it.
func candidateUfrag(c webrtc.ICECandidateInit) string {
	_, rest, _ := strings.Cut(c.Candidate, " ufrag ")
	if ufrag, _, _ := strings.Cut(rest, " "); ufrag != "" {
		return ufrag
	}
	if c.UsernameFragment != nil {
		return *c.UsernameFragment
	}
	return ""
}
