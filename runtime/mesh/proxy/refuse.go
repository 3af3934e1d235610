package proxy

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// hello matches that of TLS: a handshake record of version 3.x (RFC 8446 section 5.1).
func hello(head []byte) Verdict { return Prefix("\x16\x03")(head) }

// handshakeFailure is a fatal alert of TLS (RFC 8446 section 6).
const handshakeFailure = "\x15\x03\x03\x00\x02\x02\x28"

// refuse answers what is not served here, if it can be told what its client would understand.
func (d *Dispatch) refuse(nc net.Conn, head []byte) {
	level, answer := slog.LevelDebug, "" // who gets an answer knows already
	switch {
	case len(head) == 0:
		return // a probe that connects and goes
	case HTTP1(head) == Yes:
		text := "This port speaks gRPC (HTTP/2 without an upgrade). " + d.Hint + "\n"
		answer = fmt.Sprintf("HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n"+
			"%s: sidecar\r\n\r\n%s", len(text), HeaderOrigin, text)
	case hello(head) == Yes:
		answer = handshakeFailure
	default:
		level = slog.LevelWarn
	}
	d.log(level, "connection of an unknown protocol", "peer", nc.RemoteAddr().String(), "first_bytes", string(head[:min(len(head), 8)]))
	if answer != "" {
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		io.WriteString(nc, answer)
		d.linger(nc)
	}
}

// linger reads what still comes for a moment: a close with bytes unread resets the connection, and takes the answer with it.
func (d *Dispatch) linger(nc net.Conn) {
	if w, ok := nc.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
		nc.SetReadDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, io.LimitReader(nc, 64<<10))
	}
}
