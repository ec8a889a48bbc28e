package diddoc_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/atproto/diddoc/dnstest"
)

// inside is a service that a stranger must not reach. It counts connections, so a byte need not be sent to be seen.
type inside struct {
	net.Listener
	accepted atomic.Int64
}

func (l *inside) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}

func (l *inside) port() int { return l.Addr().(*net.TCPAddr).Port }

func listen(t *testing.T, addr string, h http.HandlerFunc) *inside {
	t.Helper()
	raw, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	l := &inside{Listener: raw}
	if h == nil {
		h = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "inside") }
	}
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return l
}

func allow(cidrs ...string) func() []netip.Prefix {
	return func() (out []netip.Prefix) {
		for _, c := range cidrs {
			out = append(out, netip.MustParsePrefix(c))
		}
		return out
	}
}

// names point inward.
func names(dns *dnstest.Server) {
	dns.Set("localhost.example.com", "127.0.0.1")
	dns.Set("six.example.com", "::1")
	dns.Set("mapped.example.com", "::ffff:127.0.0.1")
	dns.Set("both.example.com", "::1 127.0.0.1")
}

func TestNoSpellingOfAnAddressReachesTheInside(t *testing.T) {
	dns := dnstest.Start(t)
	names(dns)
	four := listen(t, "127.0.0.1:0", nil)
	six := listen(t, "[::1]:0", nil)
	control := diddoc.NewClient(diddoc.Policy{AllowedPrivateCIDRs: allow("127.0.0.0/8", "::1/128")}, diddoc.Options{Resolver: dns.Resolver()})
	strict := diddoc.NewClient(diddoc.Policy{}, diddoc.Options{Resolver: dns.Resolver()})
	for _, host := range []string{
		"127.0.0.1", "localhost",
		"localhost.example.com", "both.example.com", "six.example.com", "mapped.example.com", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
		"[::ffff:7f00:1]",
	} {
		l := four
		if strings.Contains(host, "six") || host == "[::1]" || host == "[0:0:0:0:0:0:0:1]" {
			l = six
		}
		for _, scheme := range []string{"http", "https"} {
			u := fmt.Sprintf("%s://%s:%d/", scheme, host, l.port())
			before := four.accepted.Load() + six.accepted.Load()
			_, err := strict.Get(u)
			require.Equal(t, diddoc.ClassBlockedAddress, diddoc.Class(err), "%s: %v", u, err)
			require.Equal(t, before, four.accepted.Load()+six.accepted.Load(), "%s: a connection was made", u)
		}
		resp, err := control.Get(fmt.Sprintf("http://%s:%d/", host, l.port()))
		require.NoError(t, err, "the test can reach it: %s", host)
		resp.Body.Close()
		control.CloseIdleConnections()
	}
	// Go takes none of these for an address; the C library's resolver takes all of them, and Check then sees what it made.
	for _, host := range []string{"127.1", "127.0.1", "2130706433", "0x7f000001", "017700000001", "0x7f.0.0.1", "0177.0.0.1"} {
		for _, client := range []*http.Client{strict, diddoc.NewClient(diddoc.Policy{}, diddoc.Options{Resolver: &net.Resolver{}})} {
			before := four.accepted.Load()
			_, err := client.Get(fmt.Sprintf("http://%s:%d/", host, four.port()))
			require.Error(t, err, host)
			require.Equal(t, before, four.accepted.Load(), host)
		}
	}
}

func TestAddressesThatCannotBeTriedHereAreBlockedBeforeTheyAreDialled(t *testing.T) {
	strict := diddoc.NewClient(diddoc.Policy{AllowedPrivateCIDRs: allow("0.0.0.0/0", "::/0")}, diddoc.Options{})
	wide := []string{"169.254.169.254", "169.254.170.2", "[fe80::1%25lo]", "[fe80::a9fe:a9fe]", "0.0.0.0", "[::]", "255.255.255.255", "224.0.0.1", "[ff02::1]",
		"240.0.0.1", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[::ffff:169.254.169.254]"}
	for _, host := range wide {
		_, err := strict.Get("https://" + host + "/")
		require.Equal(t, diddoc.ClassBlockedAddress, diddoc.Class(err), "even when every range is allowed: %s: %v", host, err)
	}
	strict = diddoc.NewClient(diddoc.Policy{}, diddoc.Options{})
	for _, host := range append(wide, "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "100.100.100.200", "192.0.0.192", "[fd00:ec2::254]", "[fc00::1]",
		"198.18.0.1", "[64:ff9b::a00:1]", "[64:ff9b:1::a00:1]", "[2002:a00:1::1]", "[::10.0.0.1]", "[100::1]", "[2001:db8::1]") {
		_, err := strict.Get("https://" + host + "/")
		require.Equal(t, diddoc.ClassBlockedAddress, diddoc.Class(err), "%s: %v", host, err)
	}
	for _, u := range []string{"http://8.8.8.8/", "https://8.8.8.8:22/", "https://8.8.8.8:6379/", "https://[2606:4700::1]:8443/"} {
		_, err := strict.Get(u)
		require.Equal(t, diddoc.ClassBlockedAddress, diddoc.Class(err), "unusual schemes and ports: %s: %v", u, err)
	}
	for _, u := range []string{"ftp://8.8.8.8/", "file:///etc/passwd", "gopher://127.0.0.1:1/", "unix:///var/run/docker.sock", "data:text/plain,x"} {
		_, err := strict.Get(u)
		require.Error(t, err, u)
		require.Equal(t, diddoc.ClassBlockedAddress, diddoc.Class(err), "%s: %v", u, err)
	}
}

// The name server of an attacker answers an allowed address to whoever checks, and another to whoever connects.
func TestANameThatResolvesDifferentlyTheSecondTimeGainsNothing(t *testing.T) {
	dns := dnstest.Start(t)
	outside := listen(t, "127.0.0.2:0", nil)
	victim, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", outside.port()))
	require.NoError(t, err)
	in := &inside{Listener: victim}
	s := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = s.Serve(in) }()
	t.Cleanup(func() { s.Close() })

	client := diddoc.NewClient(diddoc.Policy{AllowedPrivateCIDRs: allow("127.0.0.2/32")}, diddoc.Options{Resolver: dns.Resolver()})
	dns.Set("rebind.example.com", "127.0.0.2", "127.0.0.1")
	target := fmt.Sprintf("http://rebind.example.com:%d/", outside.port())
	resp, err := client.Get(target)
	require.NoError(t, err, "the first answer is fine")
	resp.Body.Close()
	client.CloseIdleConnections()
	_, err = client.Get(target)
	require.Equal(t, diddoc.ClassBlockedAddress, diddoc.Class(err), "%v", err)

	dns.Set("both.example.com", "127.0.0.1 127.0.0.2")
	resp, err = client.Get(fmt.Sprintf("http://both.example.com:%d/", outside.port()))
	require.NoError(t, err, "of two addresses the allowed one is taken")
	resp.Body.Close()
	require.Zero(t, in.accepted.Load(), "the inside never saw a connection")
}

func TestRedirectsNeverLeaveTheHostAndAreFew(t *testing.T) {
	in := listen(t, "127.0.0.3:0", nil)
	var where string
	out := listen(t, "127.0.0.2:0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/start" {
			http.Redirect(w, r, where, http.StatusTemporaryRedirect)
		}
	})
	client := diddoc.NewClient(diddoc.Policy{AllowedPrivateCIDRs: allow("127.0.0.0/8")}, diddoc.Options{})
	start := fmt.Sprintf("http://127.0.0.2:%d/start", out.port())
	for _, where = range []string{
		fmt.Sprintf("http://127.0.0.3:%d/", in.port()), fmt.Sprintf("//127.0.0.3:%d/", in.port()), fmt.Sprintf("https://127.0.0.3:%d/", in.port()),
		fmt.Sprintf("http://user:pw@127.0.0.3:%d/", in.port()), fmt.Sprintf("http://127.0.0.2:%d/", in.port()), "ftp://127.0.0.2/", "/start",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, start, strings.NewReader("a secret"))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer secret")
		resp, err := client.Do(req)
		require.Error(t, err, where)
		if resp != nil {
			resp.Body.Close()
		}
		require.Zero(t, in.accepted.Load(), "%s was followed, although this host too may be reached", where)
		var own *diddoc.Error
		require.True(t, errors.As(err, &own), "%s: %v", where, err)
	}
}

func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy := listen(t, "127.0.0.4:0", nil)
	t.Setenv("HTTPS_PROXY", fmt.Sprintf("http://127.0.0.4:%d", proxy.port()))
	t.Setenv("HTTP_PROXY", fmt.Sprintf("http://127.0.0.4:%d", proxy.port()))
	client := diddoc.NewClient(diddoc.Policy{}, diddoc.Options{})
	_, err := client.Get("https://10.0.0.1/")
	require.Equal(t, diddoc.ClassBlockedAddress, diddoc.Class(err))
	require.Zero(t, proxy.accepted.Load(), "a proxy resolves names where no policy can see it")
}

func TestWhereClientsMayBeSent(t *testing.T) {
	strict, dev := diddoc.Policy{}, diddoc.Policy{DevLoopback: true}
	cluster := diddoc.Policy{AllowedPrivateCIDRs: allow("10.0.0.0/8")}
	for raw, want := range map[string][3]bool{ // strict, TEST_MODE, allowed range
		"https://bucket.s3.example.com/x?sig=1":      {true, true, true},
		"https://8.8.8.8:9000/x":                     {true, true, true},
		"https://[2606:4700::1]/":                    {true, true, true},
		"http://minio.storage.svc:9000/x":            {true, true, true}, // whatever the client makes of it
		"http://10.0.0.1:9000/x":                     {false, false, true},
		"http://127.0.0.1:9000/x":                    {false, true, false},
		"http://localhost:9000/x":                    {false, true, false},
		"http://a.localhost./x":                      {false, true, false},
		"http://[::1]:9000/x":                        {false, true, false},
		"https://169.254.169.254/latest/":            {false, false, false},
		"https://[fe80::1%25eth0]/":                  {false, false, false},
		"https://[::ffff:169.254.169.254]/":          {false, false, false},
		"https://2130706433/":                        {false, false, false},
		"https://0x7f.1/":                            {false, false, false},
		"https://127.1/":                             {false, false, false},
		"https://0.0.0.0/":                           {false, false, false},
		"https://user:pw@bucket.s3.example.com/":     {false, false, false},
		"javascript:alert(1)":                        {false, false, false},
		"https:///x":                                 {false, false, false},
		"//bucket.s3.example.com/x":                  {false, false, false},
		"https://bucket.s3.example.com\u3002evil.io": {false, false, false},
	} {
		u, err := url.Parse(raw)
		require.NoError(t, err, raw)
		for i, p := range []diddoc.Policy{strict, dev, cluster} {
			require.Equal(t, want[i], p.CheckURL(u) == nil, "%s, policy %d: %v", raw, i, p.CheckURL(u))
		}
	}
}
