package registry

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// A browser sends what a page asks for, of whatever site the page is, and with the login or from the network of
// its user. It says so. Clients that are no browsers send neither header.

var errElsewhere = errcode.ErrorCodeDenied.WithMessage("a page of another site may not change this registry")

// fromElsewhere says whether a page of another origin than this registry's asks.
func fromElsewhere(hr *http.Request) bool {
	switch hr.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none": // none: the user asked, not a page
		return false
	case "":
	default: // same-site, too: another port, or a neighbour below the same domain
		return true
	}
	said := hr.Header.Get("Origin")
	if said == "" {
		return false
	}
	theirs, err := url.Parse(said)
	_, ours, _ := strings.Cut(origin(hr), "://")
	if err != nil || ours == "" {
		return true
	}
	standard := standardPort[theirs.Scheme] // which a browser leaves out, and some proxies do not
	return !strings.EqualFold(strings.TrimSuffix(theirs.Host, standard), strings.TrimSuffix(ours, standard))
}

var standardPort = map[string]string{"http": ":80", "https": ":443"}

// safe says that a method changes nothing.
func safe(method string) bool { return method == http.MethodGet || method == http.MethodHead }
