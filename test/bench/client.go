package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// call is one request, ready to be written, and what its answer must be. Anything else ends the run.
type call struct {
	method string
	target string // as on the request line: a Location is sent back exactly as it came
	header string // lines, each with its CRLF
	body   []byte
	want   want
}

// want is what an answer must have.
type want struct {
	status int
	body   []byte // exactly; nil: any
	list   []byte // the same JSON, however it is written; nil: any
	length int64  // of the body, or as announced to HEAD; 0: any
	digest string // Docker-Content-Digest; empty: any
}

// ioTimeout bounds one request.
const ioTimeout = 2 * time.Minute

// conn is a keep-alive connection to one server. It writes prepared bytes and checks the answer: a client library
// would cost more than the servers do, on the same cores.
type conn struct {
	host string
	net  net.Conn
	in   *bufio.Reader
	out  bytes.Buffer
	buf  []byte
	over bool // the server has closed it after the last answer
}

func dial(host string) (*conn, error) { return dialSized(host, 256<<10) }

// dialSmall is for thousands of connections that wait.
func dialSmall(host string) (*conn, error) { return dialSized(host, 512) }

func dialSized(host string, buffer int) (*conn, error) {
	c, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	return &conn{host: host, net: c, in: bufio.NewReaderSize(c, buffer), buf: make([]byte, buffer)}, nil
}

func (c *conn) close() { _ = c.net.Close() }

// do sends a request and reads its answer to the end. The header is valid until the next call.
func (c *conn) do(q *call) (http.Header, error) {
	resp, err := c.send(q)
	if err != nil {
		return nil, err
	}
	return resp.Header, c.check(q, resp)
}

func (c *conn) send(q *call) (*http.Response, error) {
	if c.over {
		again, err := net.Dial("tcp", c.host)
		if err != nil {
			return nil, err
		}
		_ = c.net.Close()
		c.net, c.over = again, false
		c.in.Reset(again)
	}
	if err := c.net.SetDeadline(time.Now().Add(ioTimeout)); err != nil {
		return nil, err
	}
	c.out.Reset()
	fmt.Fprintf(&c.out, "%s %s HTTP/1.1\r\nHost: %s\r\n%s", q.method, q.target, c.host, q.header)
	if q.body != nil || q.method == http.MethodPost || q.method == http.MethodPut || q.method == http.MethodPatch {
		fmt.Fprintf(&c.out, "Content-Length: %d\r\n", len(q.body))
	}
	c.out.WriteString("\r\n")
	parts := net.Buffers{c.out.Bytes(), q.body}
	if _, err := parts.WriteTo(c.net); err != nil {
		return nil, fmt.Errorf("%s %s: %w", q.method, path(q.target), err)
	}
	resp, err := http.ReadResponse(c.in, &http.Request{Method: q.method})
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", q.method, path(q.target), err)
	}
	c.over = resp.Close
	return resp, nil
}

// check reads the body of an answer and compares all of it with what must be.
func (c *conn) check(q *call, resp *http.Response) error {
	defer resp.Body.Close()
	var got int64
	match := true
	var head []byte // for the error
	var whole []byte
	for {
		n, err := resp.Body.Read(c.buf)
		if q.want.body != nil && n > 0 {
			match = match && got+int64(n) <= int64(len(q.want.body)) && bytes.Equal(q.want.body[got:got+int64(n)], c.buf[:n])
		}
		if len(head) < 300 {
			head = append(head, c.buf[:min(n, 300)]...)
		}
		if q.want.list != nil {
			whole = append(whole, c.buf[:n]...)
		}
		got += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s %s: read answer: %w", q.method, path(q.target), err)
		}
	}
	if q.method == http.MethodHead {
		got = resp.ContentLength
	}
	fail := func(format string, args ...any) error {
		return &wrongAnswer{status: resp.StatusCode, text: fmt.Sprintf("%s %s: %s: %s", q.method, path(q.target), fmt.Sprintf(format, args...), head)}
	}
	w := q.want
	switch digest := resp.Header.Get("Docker-Content-Digest"); {
	case resp.StatusCode != w.status:
		return fail("status %d, not %d", resp.StatusCode, w.status)
	case q.method != http.MethodHead && w.body != nil && (!match || got != int64(len(w.body))):
		return fail("%d bytes, which are not the %d that were pushed", got, len(w.body))
	case w.list != nil && !sameJSON(whole, w.list):
		return fail("not the list that was asked for")
	case w.length != 0 && got != w.length:
		return fail("%d bytes, not %d", got, w.length)
	case w.digest != "" && digest != w.digest:
		return fail("digest %q, not %q", digest, w.digest)
	}
	return nil
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// wrongAnswer is an answer that is not what it must be.
type wrongAnswer struct {
	status int
	text   string
}

func (e *wrongAnswer) Error() string { return e.text }

// path leaves out the query, which may hold a signature.
func path(target string) string {
	p, _, _ := strings.Cut(target, "?")
	return p
}

// dialer keeps one connection to each server, for a client that goes from registry to hold and back.
type dialer map[string]*conn

func (d dialer) to(host string) (*conn, error) {
	if c := d[host]; c != nil {
		return c, nil
	}
	c, err := dial(host)
	if err == nil {
		d[host] = c
	}
	return c, err
}

func (d dialer) close() {
	for _, c := range d {
		c.close()
	}
	clear(d)
}

// location splits a Location into host and target without touching the target. A bare path stays at from.
func location(from, value string) (host, target string, err error) {
	if strings.HasPrefix(value, "/") {
		return from, value, nil
	}
	rest, ok := strings.CutPrefix(value, "http://")
	host, target, slash := strings.Cut(rest, "/")
	if !ok || !slash {
		return "", "", fmt.Errorf("a Location that cannot be followed: %q", path(value))
	}
	return host, "/" + target, nil
}
