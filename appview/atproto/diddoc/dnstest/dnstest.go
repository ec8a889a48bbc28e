// Package dnstest is a name server for tests: it answers what the test says, and can answer differently each time, as
// the name servers of those who attack by DNS rebinding do.
package dnstest

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

// Server answers A, AAAA and TXT questions over UDP on loopback. Names that nobody set do not exist.
type Server struct {
	addr string

	mu      sync.Mutex
	answers map[string][][]netip.Addr // by name; the first is used up unless it is the last
	texts   map[string]string
	asked   map[string]int
}

// Start serves until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &Server{addr: conn.LocalAddr().String(), answers: map[string][][]netip.Addr{}, texts: map[string]string{}, asked: map[string]int{}}
	done := make(chan struct{})
	go func() { defer close(done); s.serve(conn) }()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return s
}

// Only starts one and makes it the only name server of this process until the test ends. Call it before what is tested is
// started.
func Only(t testing.TB) *Server {
	t.Helper()
	s, before := Start(t), net.DefaultResolver
	net.DefaultResolver = s.Resolver()
	t.Cleanup(func() { net.DefaultResolver = before })
	return s
}

// Set makes a name resolve to the addresses of the first turn when it is asked for first, then to those of the next;
// the last turn stays. A turn is a list of addresses between spaces.
func (s *Server) Set(name string, turns ...string) {
	var list [][]netip.Addr
	for _, turn := range turns {
		var addrs []netip.Addr
		for _, a := range strings.Fields(turn) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		list = append(list, addrs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[name] = list
}

// Asked is how often the IPv4 addresses of a name were asked for.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name]
}

// SetText makes a name have a TXT record.
func (s *Server) SetText(name, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[name] = text
}

// Resolver asks this server and nobody else.
func (s *Server) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: 10 * time.Second}
		return d.DialContext(ctx, "udp", s.addr)
	}}
}

func (s *Server) serve(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var in dnsmessage.Message
		if in.Unpack(buf[:n]) != nil || len(in.Questions) != 1 {
			continue
		}
		out := dnsmessage.Message{Header: dnsmessage.Header{ID: in.ID, Response: true, Authoritative: true, RecursionAvailable: true}, Questions: in.Questions}
		s.answer(&out)
		if b, err := out.Pack(); err == nil {
			_, _ = conn.WriteTo(b, from) // who asked may have left
		}
	}
}

func (s *Server) answer(out *dnsmessage.Message) {
	q := out.Questions[0]
	name := strings.TrimSuffix(q.Name.String(), ".")
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Type == dnsmessage.TypeA {
		s.asked[name]++
	}
	head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET}
	text, hasText := s.texts[name]
	turns, hasAddrs := s.answers[name]
	switch {
	case !hasText && !hasAddrs:
		out.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeTXT && hasText:
		out.Answers = append(out.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.TXTResource{TXT: []string{text}}})
	case q.Type == dnsmessage.TypeA && len(turns) > 0: // a turn is over when its A records were asked for
		if len(turns) > 1 {
			s.answers[name] = turns[1:]
		}
		for _, a := range turns[0] {
			if a.Is4() {
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
			}
		}
	case q.Type == dnsmessage.TypeAAAA && len(turns) > 0:
		for _, a := range turns[0] {
			if a.Is6() {
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
	}
}
