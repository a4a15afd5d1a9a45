package gatewaylaunch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"berth/netstate"
)

// Health is where a gateway tells that it can serve, beyond listening. It is
// asked only of the gateway itself: an answer of somebody else who listens there
// says nothing about this one.
type Health struct {
	URL *url.URL // http or https, at an address of this machine
	// Body must occur in the answer, white space aside; empty means that its
	// status is enough.
	Body string
}

const (
	healthTimeout = 2 * time.Second
	healthMost    = 64 << 10 // bytes of an answer that are looked at
)

// ParseHealth reads a URL, or the path of one at spec's own address.
func ParseHealth(text, body string, spec netstate.BindSpec) (*Health, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("it is no URL")
	}
	if u.Host == "" && u.Scheme == "" && strings.HasPrefix(u.Path, "/") {
		at := spec.AddrPort()
		if spec.Addr.IsUnspecified() {
			loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
			if spec.Addr.Is6() {
				loopback = netip.IPv6Loopback()
			}
			at = netip.AddrPortFrom(loopback, spec.Port)
		}
		u.Scheme, u.Host = "http", at.String()
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, errors.New("it must begin with http://, https:// or /")
	}
	return &Health{URL: u, Body: body}, nil
}

// HealthBodyOf is what a command's own server answers when it is well, as far
// as that is known.
func HealthBodyOf(argv []string) string {
	if parseWords(argv).openclaw() {
		return `"ok":true`
	}
	return ""
}

// identityError says that the health of somebody else would be asked about.
type identityError struct {
	at   netip.AddrPort
	text string
}

func (e *identityError) Error() string { return fmt.Sprintf(e.text, e.at) }

// check asks once. own tells whether an address is the gateway's.
func (h *Health) check(ctx context.Context, own func(context.Context, netip.AddrPort) error) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	at, err := h.find(ctx, own)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		// The address that was found to be the gateway's, and no other; no
		// proxy either.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at.String())
		},
		DisableKeepAlives: true,
	}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL.String(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("no answer within %s", netstate.Seconds(healthTimeout))
		}
		return errors.Unwrap(err) // a *url.Error repeats the URL
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, healthMost))
	switch {
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("it answered with status %d", resp.StatusCode)
	case err != nil:
		return err
	case !strings.Contains(unspaced(string(body)), unspaced(h.Body)):
		return fmt.Errorf("its answer does not contain %q", h.Body)
	}
	return nil
}

// find returns the first address of the URL's host that is the gateway's, or
// why none is.
func (h *Health) find(ctx context.Context, own func(context.Context, netip.AddrPort) error) (netip.AddrPort, error) {
	text := h.URL.Port()
	if text == "" {
		text = map[string]string{"http": "80", "https": "443"}[h.URL.Scheme]
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", h.URL.Hostname())
	if err != nil {
		return netip.AddrPort{}, err
	}
	var first error
	for _, a := range addrs {
		at := netip.AddrPortFrom(a.Unmap(), uint16(port))
		err := own(ctx, at)
		if err == nil {
			return at, nil
		}
		if first == nil {
			first = err
		}
	}
	return netip.AddrPort{}, first
}

// unspaced lets {"ok": true} be {"ok":true}.
func unspaced(s string) string { return strings.Join(strings.Fields(s), "") }
