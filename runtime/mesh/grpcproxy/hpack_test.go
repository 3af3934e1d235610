package grpcproxy

import (
	"bytes"
	"fmt"
	"math/rand"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// Our encoder against their decoder, their encoder against ours, over long lives with changing table sizes.
func TestHPACK(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	var ours encoder
	ours.init()
	theirs := hpack.NewDecoder(4096, nil)
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	var dec decoder
	dec.max = tableMax
	for i := range 20000 {
		var in []hpack.HeaderField
		for j := range rnd.Intn(12) {
			f := hpack.HeaderField{Name: fmt.Sprint("name-", rnd.Intn(30)), Value: fmt.Sprint("v", rnd.Intn(1<<uint(1+j%12))), Sensitive: rnd.Intn(20) == 0}
			switch rnd.Intn(12) {
			case 0:
				s := staticTable[1+rnd.Intn(61)]
				f.Name, f.Value = s.Name, s.Value
			case 1:
				f.Value = string(bytes.Repeat([]byte("long"), rnd.Intn(700)))
			}
			in = append(in, f)
		}
		if rnd.Intn(100) == 0 {
			n := uint32(rnd.Intn(6000))
			ours.setMax(n)
			if rnd.Intn(2) == 0 {
				ours.setMax(4096)
			}
			enc.SetMaxDynamicTableSize(min(n, 4096))
		}
		p := ours.start(nil)
		buf.Reset()
		for _, f := range in {
			g := newField(f.Name, f.Value)
			g.Sensitive = f.Sensitive
			p = ours.field(p, &g)
			enc.WriteField(f)
		}
		got, err := theirs.DecodeFull(p)
		if err != nil || len(got) != len(in) {
			t.Fatal(i, err, len(got), len(in))
		}
		mine, over, err := dec.decode(buf.Bytes(), 1<<20, nil)
		if err != nil || over || len(mine) != len(in) {
			t.Fatal(i, err, len(mine), len(in))
		}
		for j := range in {
			if got[j] != in[j] {
				t.Fatal(i, got[j], in[j])
			}
			if mine[j].Name != in[j].Name || mine[j].Value != in[j].Value || mine[j].Sensitive != in[j].Sensitive {
				t.Fatal(i, mine[j], in[j])
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x82, 0x86, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff})
	f.Add([]byte{0x20, 0x3f, 0xe1, 0x1f, 0x40, 1, 'a', 1, 'b', 0xbe})
	f.Fuzz(func(t *testing.T, p []byte) {
		var d decoder
		d.max = tableMax
		mine, _, err := d.decode(p, 1<<30, nil)
		h := hpack.NewDecoder(4096, nil)
		theirs, err2 := h.DecodeFull(p)
		if err == nil && err2 == nil {
			if len(mine) != len(theirs) {
				t.Fatal(len(mine), len(theirs))
			}
			for i := range mine {
				if mine[i].Name != theirs[i].Name || mine[i].Value != theirs[i].Value {
					t.Fatal(mine[i], theirs[i])
				}
			}
		} else if err == nil && err2 != nil {
			t.Fatalf("we take what they refuse: %v", err2)
		}
	})
}

func BenchmarkHeaders(b *testing.B) {
	var e, e2 encoder
	e.init()
	e2.init()
	var d decoder
	d.max = tableMax
	in := []Field{newField(":method", "POST"), newField(":scheme", "http"), newField(":path", "/bench.Echo/Unary"), newField(":authority", "127.0.0.1:21001"),
		newField("content-type", "application/grpc"), newField("user-agent", "grpc-go/1.85.0"), newField("te", "trailers"), newField("grpc-timeout", "4999812u")}
	var p, q []byte
	var fs []Field
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p = p[:0]
		for j := range in {
			p = e.field(p, &in[j])
		}
		fs, _, _ = d.decode(p, 1<<20, fs[:0])
		q = q[:0]
		for j := range fs {
			q = e2.field(q, &fs[j])
		}
	}
}

func BenchmarkHeadersXNet(b *testing.B) {
	var buf, buf2 bytes.Buffer
	e, e2 := hpack.NewEncoder(&buf), hpack.NewEncoder(&buf2)
	in := []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/bench.Echo/Unary"}, {Name: ":authority", Value: "127.0.0.1:21001"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "user-agent", Value: "grpc-go/1.85.0"}, {Name: "te", Value: "trailers"}, {Name: "grpc-timeout", Value: "4999812u"}}
	var fs []hpack.HeaderField
	d := hpack.NewDecoder(4096, func(f hpack.HeaderField) { fs = append(fs, f) })
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		for j := range in {
			e.WriteField(in[j])
		}
		fs = fs[:0]
		d.Write(buf.Bytes())
		d.Close()
		buf2.Reset()
		for j := range fs {
			e2.WriteField(fs[j])
		}
	}
}
