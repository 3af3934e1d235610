package client

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const headings = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

func TestWhoListens(t *testing.T) {
	// 1B9E is port 7070. The rows are of a little-endian machine, and of no other where these tests run.
	near, far := netip.MustParseAddrPort("127.0.0.1:4096"), netip.MustParseAddrPort("127.0.0.1:7070")
	for name, test := range map[string]struct {
		rows string
		want []uint32
		bad  bool
	}{
		"nobody":            {},
		"it":                {rows: "0: 0100007F:1B9E 00000000:0000 0A 0:0 0:0 0 1000 0 1\n", want: []uint32{1000}},
		"any address":       {rows: "0: 00000000:1B9E 00000000:0000 0A 0:0 0:0 0 7 0 1\n", want: []uint32{7}},
		"any, IPv6":         {rows: "0: 00000000000000000000000000000000:1B9E 00000000000000000000000000000000:0000 0A 0:0 0:0 0 8 0 1\n", want: []uint32{8}},
		"IPv4 in IPv6":      {rows: "0: 0000000000000000FFFF00000100007F:1B9E 00000000000000000000000000000000:0000 0A 0:0 0:0 0 9 0 1\n", want: []uint32{9}},
		"another address":   {rows: "0: 0200007F:1B9E 00000000:0000 0A 0:0 0:0 0 1000 0 1\n"},
		"another port":      {rows: "0: 0100007F:1B9F 00000000:0000 0A 0:0 0:0 0 1000 0 1\n"},
		"its end":           {rows: "0: 0100007F:1B9E 0100007F:1000 01 0:0 0:0 0 66 0 1\n", want: []uint32{66}},
		"another's end":     {rows: "0: 0100007F:1B9E 0100007F:1001 01 0:0 0:0 0 66 0 1\n"},
		"our end":           {rows: "0: 0100007F:1000 0100007F:1B9E 01 0:0 0:0 0 66 0 1\n"},
		"two":               {rows: "0: 0100007F:1B9E 00000000:0000 0A 0:0 0:0 0 1 0 1\n1: 00000000:1B9E 00000000:0000 0A 0:0 0:0 0 2 0 1\n", want: []uint32{1, 2}},
		"too few columns":   {rows: "0: 0100007F:1B9E 00000000:0000 0A\n", bad: true},
		"no address":        {rows: "0: here 00000000:0000 0A 0:0 0:0 0 1000 0 1\n", bad: true},
		"no port":           {rows: "0: 0100007F 00000000:0000 0A 0:0 0:0 0 1000 0 1\n", bad: true},
		"no address far":    {rows: "0: 0100007F:1B9E 00:0000 0A 0:0 0:0 0 1000 0 1\n", bad: true},
		"a user by name":    {rows: "0: 0100007F:1B9E 00000000:0000 0A 0:0 0:0 0 root 0 1\n", bad: true},
		"a user of 33 bits": {rows: "0: 0100007F:1B9E 00000000:0000 0A 0:0 0:0 0 4294967296 0 1\n", bad: true},
	} {
		got, err := scan(strings.NewReader(headings+test.rows), near, far)
		if !slices.Equal(got, test.want) || (err != nil) != test.bad {
			t.Errorf("%s: %v, %v; want %v", name, got, err, test.want)
		}
	}
}
