package registry

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// A browser sends the requests of a page of any site, with the login or from the network of its user, and says so in
// Sec-Fetch-Site or Origin. Clients that are no browsers send neither header.

var errCrossSite = errcode.ErrorCodeDenied.WithMessage("a page of another site may not change this registry")

// crossSite says whether a page of another origin than this registry's sent the request.
func crossSite(hr *http.Request) bool {
	switch hr.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none": // none: the user asked, not a page
		return false
	case "":
	default: // same-site is refused, too: another port, or another host of the same domain
		return true
	}
	sent := hr.Header.Get("Origin")
	if sent == "" {
		return false
	}
	theirs, err := url.Parse(sent)
	_, ours, _ := strings.Cut(origin(hr), "://")
	if err != nil || ours == "" {
		return true
	}
	standard := standardPort[theirs.Scheme] // a browser leaves it out, and some proxies add it
	return !strings.EqualFold(strings.TrimSuffix(theirs.Host, standard), strings.TrimSuffix(ours, standard))
}

var standardPort = map[string]string{"http": ":80", "https": ":443"}

// safe says that a method changes nothing in the registry.
func safe(method string) bool { return method == http.MethodGet || method == http.MethodHead }
