package framing

import (
	"io"
	"net"
	"time"
)

const (
	lingerFor  = 20 * time.Second // less than a server that stops gives its requests
	lingerMost = 256 << 20        // bytes
)

// Heard lets clients hear an answer that came before the end of their request: that a disk is full, say. A server that
// closes a connection with bytes unread resets it, and a client that sends all of its body before it reads finds the
// answer gone. net/http waits half a second; here what is still sent is read, and forgotten, until the client closes or it
// was enough (RFC 9112, section 9.6). It is for the plain listener of a server, not for one of TLS.
func Heard(l net.Listener) net.Listener { return heard{l} }

type heard struct{ net.Listener }

func (l heard) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		return lingering{tcp}, err
	}
	return c, err
}

// lingering is a connection of which net/http ends the writing half only when it has not read a whole body.
type lingering struct{ *net.TCPConn }

func (c lingering) CloseWrite() error {
	if err := c.TCPConn.CloseWrite(); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(lingerFor)); err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, c.TCPConn, lingerMost) // however it ends, the connection is closed now
	return nil
}
