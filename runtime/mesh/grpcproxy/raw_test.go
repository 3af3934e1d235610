package grpcproxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// raw is a client that can be rude.
type raw struct {
	t   testing.TB
	nc  net.Conn
	br  *bufio.Reader
	enc encoder
	dec *hpack.Decoder

	lists map[uint32][][]hpack.HeaderField // that came and were not looked at
}

func rawClient(t testing.TB, addr string) *raw {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := &raw{t: t, nc: nc, br: bufio.NewReader(nc), dec: hpack.NewDecoder(4096, nil)}
	c.enc.init()
	c.write(appendSettings([]byte(preface)))
	return c
}

func (c *raw) write(b []byte) error { _, err := c.nc.Write(b); return err }

func (c *raw) appendRequest(b []byte, id uint32, end bool, kv ...string) []byte {
	var p []byte
	all := append([]string{":method", "POST", ":scheme", "http", ":path", "/test.Echo/Raw", ":authority", "x", "content-type", "application/grpc", "te", "trailers"}, kv...)
	for i := 0; i < len(all); i += 2 {
		f := newField(all[i], all[i+1])
		p = c.enc.field(p, &f)
	}
	var flags byte
	if end {
		flags = flagEnd
	}
	first := min(len(p), maxFrame)
	if first == len(p) {
		return append(appendFrame(b, len(p), fHeaders, flags|flagEndHeaders, id), p...)
	}
	b = append(appendFrame(b, first, fHeaders, flags, id), p[:first]...)
	return append(appendFrame(b, len(p)-first, fContinuation, flagEndHeaders, id), p[first:]...)
}

func appendList(b []byte, enc *encoder, id uint32, flags byte, fields []Field) []byte {
	at := len(b)
	b = appendFrame(b, 0, fHeaders, flags|flagEndHeaders, id)
	for i := range fields {
		b = enc.field(b, &fields[i])
	}
	b[at+2] = byte(len(b) - at - frameHeader)
	return b
}

func (c *raw) request(id uint32, end bool, kv ...string) {
	c.write(c.appendRequest(nil, id, end, kv...))
}

func (c *raw) read() (typ byte, id uint32, p []byte, err error) {
	var h [9]byte
	if _, err = io.ReadFull(c.br, h[:]); err != nil {
		return
	}
	p = make([]byte, int(h[0])<<16|int(h[1])<<8|int(h[2]))
	_, err = io.ReadFull(c.br, p)
	return h[3], binary.BigEndian.Uint32(h[5:]), p, err
}

// until reads up to a frame of stream id that is neither DATA nor WINDOW_UPDATE.
func (c *raw) until(id uint32) (byte, uint32, []byte) {
	c.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		typ, got, p, err := c.read()
		if err != nil {
			c.t.Fatal(err)
		}
		if typ == fHeaders { // all must be decoded: they share a table
			fs, err := c.dec.DecodeFull(p)
			if err != nil {
				c.t.Fatal(err)
			}
			if c.lists == nil {
				c.lists = map[uint32][][]hpack.HeaderField{}
			}
			c.lists[got] = append(c.lists[got], fs)
		}
		if got == id && typ != fData && typ != fWindow {
			return typ, got, p
		}
	}
}

func (c *raw) status(id uint32) string {
	code, _ := c.answer(id)
	return code
}

// answer is the grpc-status of stream id and the reason it carries.
func (c *raw) answer(id uint32) (code, why string) {
	end := c.ending(id)
	var st rpcstatus.Status
	b, _ := base64.RawStdEncoding.DecodeString(end["grpc-status-details-bin"])
	if proto.Unmarshal(b, &st) == nil {
		why = reason(status.FromProto(&st).Err())
	}
	return end["grpc-status"], why
}

// ending is the header list of stream id that has its grpc-status.
func (c *raw) ending(id uint32) map[string]string {
	for {
		for len(c.lists[id]) == 0 {
			if typ, _, _ := c.until(id); typ != fHeaders {
				c.t.Fatal("frame type ", typ)
			}
		}
		fs := c.lists[id][0]
		c.lists[id] = c.lists[id][1:]
		end := map[string]string{}
		for _, f := range fs {
			end[f.Name] = f.Value
		}
		if end["grpc-status"] != "" {
			return end
		}
	}
}

// goAway reads up to a GOAWAY, which has to be of that code, and returns its text.
func (c *raw) goAway(code uint32) string {
	c.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		typ, _, p, err := c.read()
		if err != nil {
			c.t.Fatal("no GOAWAY: ", err)
		}
		if typ == fGoAway {
			if got := binary.BigEndian.Uint32(p[4:]); got != code {
				c.t.Fatalf("GOAWAY code %d %s", got, p[8:])
			}
			return string(p[8:])
		}
	}
}

// FuzzConn throws bytes at a downstream connection and at an upstream one; what must not happen is a panic or a stream left over.
func FuzzConn(f *testing.F) {
	var c raw
	c.enc.init()
	ok := c.appendRequest(appendSettings(nil, setWindow, 100), 1, false, "a", "b")
	ok = append(appendFrame(ok, 3, fData, flagEnd, 1), "abc"...)
	f.Add(ok, appendSettings(nil, setMaxStreams, 1))
	f.Add(appendU32(ok, fReset, 1, 8), appendGoAway(appendSettings(nil), 0, 0, "x"))
	f.Add(appendU32(ok, fWindow, 1, 8), append(appendFrame(appendSettings(nil), 1, fHeaders, 5, 1), 0x88))
	f.Fuzz(func(t *testing.T, down, up []byte) {
		r := &Relay{}
		done := make(chan struct{})
		u := r.NewUpstream("u", 1, func(context.Context) (net.Conn, error) {
			a, b := net.Pipe()
			go io.Copy(io.Discard, b)
			go func() { b.Write(up); <-done; b.Close() }()
			return a, nil
		})
		r.Route = func(*Headers) (*Upstream, error) { return u, nil }
		a, b := net.Pipe()
		go io.Copy(io.Discard, b)
		ended := make(chan struct{})
		go func() { r.ServeConn(a); close(ended) }()
		b.Write(append([]byte(preface), down...))
		time.Sleep(time.Millisecond)
		b.Close()
		close(done)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Fatal("hangs")
		}
		r.Close()
	})
}

func newReader(nc net.Conn) *bufio.Reader { return bufio.NewReader(nc) }
