package remote

import "regexp"

// related is where the text of a candidate names the address that it was
// gathered from.
var related = regexp.MustCompile(` raddr \S+ rport \d+`)

// conceal takes our own addresses out of a description or a candidate of which
// the member is to learn relayed ones only (RFC 8839, 5.1).
func (a *API) conceal(text string) string {
	if !a.options.RelayOnly {
		return text
	}
	return related.ReplaceAllString(text, " raddr 0.0.0.0 rport 9")
}
