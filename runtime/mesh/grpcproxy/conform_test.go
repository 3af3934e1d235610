package grpcproxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// The cases of RFC 9113 and RFC 7541 that the h2spec tool checks, told to a relay by a client that can be rude. want is
// the error code expected, of a GOAWAY if conn is set, else of a GOAWAY or an RST_STREAM of stream 1.
type rudeness struct {
	name string
	do   func(c *raw)
	want uint32
	conn bool
}

const fine = ^uint32(0) // no error, and the connection still answers

func frame(typ, flags byte, id uint32, p ...byte) []byte {
	return append(appendFrame(nil, len(p), typ, flags, id), p...)
}

func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func (c *raw) hang(id uint32, end bool, kv ...string) {
	c.request(id, end, append(kv, "do", "hang")...)
}

// block sends HEADERS of a block as it is.
func (c *raw) block(id uint32, flags byte, p ...byte) { c.write(frame(fHeaders, flags, id, p...)) }

var rude = []rudeness{
	{"3.5 invalid preface", func(c *raw) { c.nc.Write([]byte("INVALID CONNECTION PREFACE\r\n\r\n")) }, codeProtocol, true},
	{"4.1 unknown type", func(c *raw) { c.write(frame(0xff, 0, 0, make([]byte, 8)...)) }, fine, false},
	{"4.1 undefined flag", func(c *raw) { c.write(frame(fPing, 0xfe, 0, make([]byte, 8)...)) }, fine, false},
	{"4.1 reserved bit", func(c *raw) { c.write(frame(fPing, 0, 1<<31, make([]byte, 8)...)) }, fine, false},
	{"4.2 largest DATA", func(c *raw) {
		c.hang(1, false)
		c.write(frame(fData, 0, 1, make([]byte, maxFrame)...))
	}, fine, false},
	{"4.2 DATA too large", func(c *raw) {
		c.hang(1, false)
		c.write(frame(fData, 0, 1, make([]byte, maxFrame+1)...))
	}, codeFrameSize, true},
	{"4.2 HEADERS too large", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, make([]byte, maxFrame+1)...) }, codeFrameSize, true},
	{"4.3 broken block", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, 0x40) }, codeCompression, true},
	{"4.3 PRIORITY within a block", func(c *raw) {
		c.block(1, flagEnd, 0x82)
		c.write(frame(fPriority, 0, 1, 0, 0, 0, 0, 5))
	}, codeProtocol, true},
	{"4.3 another stream's HEADERS within a block", func(c *raw) {
		c.block(1, flagEnd, 0x82)
		c.request(3, true)
	}, codeProtocol, true},

	{"5.1 idle: DATA", func(c *raw) { c.write(frame(fData, flagEnd, 1, 'x')) }, codeProtocol, true},
	{"5.1 idle: RST_STREAM", func(c *raw) { c.write(appendU32(nil, fReset, 1, codeCancel)) }, codeProtocol, true},
	{"5.1 idle: WINDOW_UPDATE", func(c *raw) { c.write(appendU32(nil, fWindow, 1, 100)) }, codeProtocol, true},
	{"5.1 idle: CONTINUATION", func(c *raw) { c.write(frame(fContinuation, flagEndHeaders, 1)) }, codeProtocol, true},
	{"5.1 idle: PRIORITY", func(c *raw) { c.write(frame(fPriority, 0, 1, 0, 0, 0, 0, 5)) }, fine, false},
	{"5.1 half-closed: DATA", func(c *raw) {
		c.hang(1, true)
		c.write(frame(fData, flagEnd, 1, 'x'))
	}, codeStreamClosed, false},
	{"5.1 half-closed: HEADERS", func(c *raw) { c.hang(1, true); c.request(1, true) }, codeStreamClosed, false},
	{"5.1 half-closed: CONTINUATION", func(c *raw) {
		c.hang(1, true)
		c.write(frame(fContinuation, flagEndHeaders, 1))
	}, codeProtocol, true},
	{"5.1 half-closed: WINDOW_UPDATE", func(c *raw) { c.hang(1, true); c.write(appendU32(nil, fWindow, 1, 100)) }, fine, false},
	{"5.1 closed by RST_STREAM: DATA", func(c *raw) {
		c.hang(1, false)
		c.write(appendU32(nil, fReset, 1, codeCancel))
		c.write(frame(fData, flagEnd, 1, 'x'))
	}, codeStreamClosed, false},
	{"5.1 closed by RST_STREAM: HEADERS", func(c *raw) {
		c.hang(1, false)
		c.write(appendU32(nil, fReset, 1, codeCancel))
		c.request(1, true)
	}, codeStreamClosed, false},
	{"5.1 closed: DATA", func(c *raw) { c.request(1, true); c.status(1); c.write(frame(fData, flagEnd, 1, 'x')) }, codeStreamClosed, false},
	{"5.1 closed: HEADERS", func(c *raw) { c.request(1, true); c.status(1); c.request(1, true) }, codeStreamClosed, true},
	{"5.1 closed: PRIORITY", func(c *raw) {
		c.request(1, true)
		c.status(1)
		c.write(frame(fPriority, 0, 1, 0, 0, 0, 0, 5))
	}, fine, false},
	{"5.1 closed by us: DATA that crossed", func(c *raw) {
		c.request(1, false, "bad Name", "x")
		c.until(1)
		c.write(frame(fData, flagEnd, 1, 'x'))
	}, fine, false},
	{"5.1.1 even", func(c *raw) { c.request(2, true) }, codeProtocol, true},
	{"5.1.1 smaller", func(c *raw) { c.hang(5, true); c.request(3, true) }, codeProtocol, true},
	{"5.1.2 too many", func(c *raw) {
		for i := range uint32(4) {
			c.hang(9-2*3+2*i, true)
		}
		c.hang(11, true)
		if typ, _, p := c.until(11); typ == fReset {
			c.write(appendU32(nil, fReset, 3, codeCancel))
			if binary.BigEndian.Uint32(p) != codeRefused {
				c.t.Error("not refused")
			}
			return
		}
		c.t.Error("no RST_STREAM")
	}, fine, false},
	{"5.3.1 HEADERS on themselves", func(c *raw) {
		c.block(1, flagEndHeaders|flagEnd|flagPriority, append([]byte{0, 0, 0, 1, 5}, goodBlock...)...)
	}, codeProtocol, false},
	{"5.3.1 PRIORITY on itself", func(c *raw) {
		c.hang(1, true)
		c.write(frame(fPriority, 0, 1, 0, 0, 0, 1, 5))
	}, codeProtocol, false},
	{"5.5 unknown type within a block", func(c *raw) { c.block(1, flagEnd, 0x82); c.write(frame(0xfe, 0, 0)) }, codeProtocol, true},

	{"6.1 stream 0", func(c *raw) { c.write(frame(fData, 0, 0, 'x')) }, codeProtocol, true},
	{"6.1 padding", func(c *raw) { c.hang(1, false); c.write(frame(fData, flagPadded, 1, 6, 1, 2, 3)) }, codeProtocol, true},
	{"6.1 padding that fits", func(c *raw) { c.hang(1, false); c.write(frame(fData, flagPadded, 1, 3, 1, 0, 0, 0)) }, fine, false},
	{"6.2 HEADERS then another frame", func(c *raw) { c.block(1, flagEnd, 0x82); c.write(frame(fData, 0, 1)) }, codeProtocol, true},
	{"6.2 stream 0", func(c *raw) { c.block(0, flagEndHeaders|flagEnd, goodBlock...) }, codeProtocol, true},
	{"6.2 padding", func(c *raw) { c.block(1, flagEndHeaders|flagEnd|flagPadded, append([]byte{200}, goodBlock...)...) }, codeProtocol, true},
	{"6.3 stream 0", func(c *raw) { c.write(frame(fPriority, 0, 0, 0, 0, 0, 1, 5)) }, codeProtocol, true},
	{"6.3 length", func(c *raw) { c.hang(1, true); c.write(frame(fPriority, 0, 1, 0, 0, 0, 3)) }, codeFrameSize, false},
	{"6.4 stream 0", func(c *raw) { c.write(appendU32(nil, fReset, 0, codeCancel)) }, codeProtocol, true},
	{"6.4 length", func(c *raw) { c.hang(1, true); c.write(frame(fReset, 0, 1, 0, 0, 0)) }, codeFrameSize, true},
	{"6.5 ACK with payload", func(c *raw) { c.write(frame(fSettings, flagEnd, 0, 0)) }, codeFrameSize, true},
	{"6.5 stream 1", func(c *raw) { c.write(frame(fSettings, 0, 1)) }, codeProtocol, true},
	{"6.5 length", func(c *raw) { c.write(frame(fSettings, 0, 0, 0, 1, 0)) }, codeFrameSize, true},
	{"6.5.2 ENABLE_PUSH", func(c *raw) { c.write(appendSettings(nil, setPush, 2)) }, codeProtocol, true},
	{"6.5.2 INITIAL_WINDOW_SIZE", func(c *raw) { c.write(appendSettings(nil, setWindow, 1<<31)) }, codeFlowControl, true},
	{"6.5.2 MAX_FRAME_SIZE small", func(c *raw) { c.write(appendSettings(nil, setMaxFrame, maxFrame-1)) }, codeProtocol, true},
	{"6.5.2 MAX_FRAME_SIZE large", func(c *raw) { c.write(appendSettings(nil, setMaxFrame, 1<<24)) }, codeProtocol, true},
	{"6.5.2 unknown", func(c *raw) { c.write(appendSettings(nil, 0xff, 1)) }, fine, false},
	{"6.7 stream 1", func(c *raw) { c.write(frame(fPing, 0, 1, make([]byte, 8)...)) }, codeProtocol, true},
	{"6.7 length", func(c *raw) { c.write(frame(fPing, 0, 0, make([]byte, 6)...)) }, codeFrameSize, true},
	{"6.7 ACK", func(c *raw) { c.write(frame(fPing, flagEnd, 0, make([]byte, 8)...)) }, fine, false},
	{"6.8 stream 1", func(c *raw) { c.write(frame(fGoAway, 0, 1, make([]byte, 8)...)) }, codeProtocol, true},
	{"6.9 zero, connection", func(c *raw) { c.write(appendU32(nil, fWindow, 0, 0)) }, codeProtocol, true},
	{"6.9 zero, stream", func(c *raw) { c.hang(1, true); c.write(appendU32(nil, fWindow, 1, 0)) }, codeProtocol, false},
	{"6.9 length", func(c *raw) { c.write(frame(fWindow, 0, 0, 0, 0, 1)) }, codeFrameSize, true},
	{"6.9.1 over the top, connection", func(c *raw) {
		c.write(appendU32(appendU32(nil, fWindow, 0, 1<<31-1), fWindow, 0, 1<<31-1))
	}, codeFlowControl, true},
	{"6.9.1 over the top, stream", func(c *raw) {
		c.hang(1, true)
		c.write(appendU32(appendU32(nil, fWindow, 1, 1<<31-1), fWindow, 1, 1<<31-1))
	}, codeFlowControl, false},
	{"6.9.2 over the top by SETTINGS", func(c *raw) {
		c.hang(1, true)
		c.write(appendU32(nil, fWindow, 1, 1<<30))
		c.write(appendSettings(nil, setWindow, 1<<31-1))
	}, codeFlowControl, true},
	{"6.10 several", func(c *raw) {
		c.block(1, flagEnd, goodBlock[:2]...)
		c.write(frame(fContinuation, 0, 1, goodBlock[2:3]...))
		c.write(frame(fContinuation, flagEndHeaders, 1, goodBlock[3:]...))
	}, fine, false},
	{"6.10 then another frame", func(c *raw) {
		c.block(1, flagEnd, 0x82)
		c.write(frame(fContinuation, 0, 1, 0x86))
		c.write(frame(fData, flagEnd, 1))
	}, codeProtocol, true},
	{"6.10 stream 0", func(c *raw) { c.block(1, flagEnd, 0x82); c.write(frame(fContinuation, flagEndHeaders, 0)) }, codeProtocol, true},
	{"6.10 after END_HEADERS", func(c *raw) { c.hang(1, false); c.write(frame(fContinuation, flagEndHeaders, 1)) }, codeProtocol, true},
	{"6.10 after DATA", func(c *raw) {
		c.hang(1, false)
		c.write(frame(fData, 0, 1, 'x'))
		c.write(frame(fContinuation, flagEndHeaders, 1))
	}, codeProtocol, true},

	{"7 unknown code, GOAWAY", func(c *raw) { c.write(frame(fGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff)) }, fine, false},
	{"7 unknown code, RST_STREAM", func(c *raw) { c.hang(1, true); c.write(appendU32(nil, fReset, 1, 0xff)) }, fine, false},

	{"8.1 second HEADERS without END_STREAM", func(c *raw) { c.hang(1, false); c.trailers(1, 0, "a", "b") }, codeProtocol, false},
	{"8.1.2 upper case", func(c *raw) { c.hang(1, true, "X-Test", "x") }, codeProtocol, false},
	{"8.1.2.1 unknown pseudo", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, lit(goodBlock, ":test", "x")...) }, codeProtocol, false},
	{"8.1.2.1 of responses", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, lit(goodBlock, ":status", "200")...) }, codeProtocol, false},
	{"8.1.2.1 in trailers", func(c *raw) { c.hang(1, false); c.trailers(1, flagEnd, ":method", "GET") }, codeProtocol, false},
	{"8.1.2.1 after others", func(c *raw) {
		c.block(1, flagEndHeaders|flagEnd, lit(lit(goodBlock, "a", "b"), ":authority", "x")...)
	}, codeProtocol, false},
	{"8.1.2.2 connection", func(c *raw) { c.hang(1, true, "connection", "keep-alive") }, codeProtocol, false},
	{"8.1.2.2 te", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, lit(goodBlock, "te", "trailers, deflate")...) }, codeProtocol, false},
	{"8.1.2.3 empty path", func(c *raw) {
		c.block(1, flagEndHeaders|flagEnd, lit([]byte{0x82, 0x86}, ":path", "")...)
	}, codeProtocol, false},
	{"8.1.2.3 no method", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, 0x86, 0x84) }, codeProtocol, false},
	{"8.1.2.3 no scheme", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, 0x82, 0x84) }, codeProtocol, false},
	{"8.1.2.3 no path", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, 0x82, 0x86) }, codeProtocol, false},
	{"8.1.2.3 two methods", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, 0x82, 0x82, 0x86, 0x84) }, codeProtocol, false},
	{"8.1.2.3 two schemes", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, 0x82, 0x86, 0x86, 0x84) }, codeProtocol, false},
	{"8.1.2.3 two paths", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, 0x82, 0x86, 0x84, 0x84) }, codeProtocol, false},
	{"8.1.2.6 content-length", func(c *raw) { c.hang(1, false, "content-length", "1"); c.write(frame(fData, flagEnd, 1, 'x', 'y')) }, codeProtocol, false},
	{"8.1.2.6 content-length, several DATA", func(c *raw) {
		c.hang(1, false, "content-length", "9")
		c.write(frame(fData, 0, 1, 'x'))
		c.write(frame(fData, flagEnd, 1, 'y'))
	}, codeProtocol, false},
	{"8.1.2.6 content-length, no DATA", func(c *raw) { c.hang(1, true, "content-length", "1") }, codeProtocol, false},
	{"8.1.2.6 content-length, trailers", func(c *raw) { c.hang(1, false, "content-length", "1"); c.trailers(1, flagEnd, "a", "b") }, codeProtocol, false},
	{"8.1.2.6 content-length that is right", func(c *raw) { c.hang(1, false, "content-length", "1"); c.write(frame(fData, flagEnd, 1, 'x')) }, fine, false},
	{"8.2 PUSH_PROMISE", func(c *raw) { c.write(frame(fPush, flagEndHeaders, 1, append(u32(2), goodBlock...)...)) }, codeProtocol, true},

	{"hpack 2.3.3 index", func(c *raw) {
		c.block(1, flagEndHeaders|flagEnd, append(goodBlock[:len(goodBlock):len(goodBlock)], 0xff, 0x7f)...)
	}, codeCompression, true},
	{"hpack 4.2 size update at the end", func(c *raw) {
		c.block(1, flagEndHeaders|flagEnd, append(goodBlock[:len(goodBlock):len(goodBlock)], 0x20)...)
	}, codeCompression, true},
	{"hpack 5.2 padding of more than 7 bits", func(c *raw) {
		c.block(1, flagEndHeaders|flagEnd, 0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff)
	}, codeCompression, true},
	{"hpack 5.2 padding with zeros", func(c *raw) {
		c.block(1, flagEndHeaders|flagEnd, 0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90)
	}, codeCompression, true},
	{"hpack 5.2 EOS", func(c *raw) {
		c.block(1, flagEndHeaders|flagEnd, 0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x87, 0x49, 0x51, 0xff, 0xff, 0xff, 0xfa, 0x7f)
	}, codeCompression, true},
	{"hpack 6.1 index 0", func(c *raw) {
		c.block(1, flagEndHeaders|flagEnd, append(goodBlock[:len(goodBlock):len(goodBlock)], 0x80)...)
	}, codeCompression, true},
	{"hpack 6.3 too large a table", func(c *raw) { c.block(1, flagEndHeaders|flagEnd, append([]byte{0x3f, 0xe2, 0x1f}, goodBlock...)...) }, codeCompression, true},
}

var goodBlock = lit([]byte{0x83, 0x86, 0x84}, "do", "hang")

// lit appends a field that is not indexed.
func lit(b []byte, name, value string) []byte {
	b = append(append(b[:len(b):len(b)], 0, byte(len(name))), name...)
	return append(append(b, byte(len(value))), value...)
}

func (c *raw) trailers(id uint32, flags byte, kv ...string) {
	var p []byte
	for i := 0; i < len(kv); i += 2 {
		p = lit(p, kv[i], kv[i+1])
	}
	c.block(id, flags|flagEndHeaders, p...)
}

func TestConformance(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.MaxStreams = 4 })
	for _, r := range rude {
		t.Run(strings.ReplaceAll(r.name, " ", "_"), func(t *testing.T) {
			var c *raw
			if strings.HasPrefix(r.name, "3.5") {
				nc, err := net.Dial("tcp", e.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				c = &raw{t: t, nc: nc, br: newReader(nc)}
			} else {
				c = rawClient(t, e.addr)
			}
			r.do(c)
			got, ofConn, err := c.verdict(r.want == fine, r.conn)
			switch {
			case err != nil && r.conn && strings.HasPrefix(r.name, "3.5"): // closing is enough
			case err != nil:
				t.Fatal(err)
			case got != r.want || r.conn && !ofConn:
				t.Fatalf("code %d, of the connection: %v", int32(got), ofConn)
			}
		})
	}
	e.cc.Close()
	e.empty()
}

// verdict is the first error the relay reports; fine, if it answers a PING instead.
func (c *raw) verdict(ping, conn bool) (code uint32, ofConn bool, err error) {
	if ping {
		c.write(frame(fPing, 0, 0, []byte("verdict!")...))
	}
	c.nc.SetReadDeadline(time.Now().Add(3 * time.Second))
	for {
		typ, id, p, err := c.read()
		switch {
		case err != nil:
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("closed without a word")
			}
			return 0, false, err
		case typ == fGoAway:
			return binary.BigEndian.Uint32(p[4:]), true, nil
		case typ == fReset && id == 1 && !conn:
			return binary.BigEndian.Uint32(p), false, nil
		case typ == fPing && string(p) == "verdict!":
			return fine, false, nil
		}
	}
}
