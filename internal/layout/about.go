package layout

import "regexp"

var about = regexp.MustCompile(`^(sha256|sha384|sha512)-([a-f0-9]{64})(\..*)?$`)

// About returns what a tag is about by its name, as the first 64 digits of a digest with its algorithm; empty: it is
// about nothing. cosign signs sha256:HEX under sha256-HEX.sig, and clients list an image's referrers under sha256-HEX,
// with at most 64 digits.
func About(tag string) string {
	parts := about.FindStringSubmatch(tag)
	if parts == nil {
		return ""
	}
	return parts[1] + ":" + parts[2]
}
