package access

import (
	"net/netip"
	"strings"
	"testing"
)

func FuzzFindSocket(f *testing.F) {
	f.Add("   0: 0100007F:A2A6 0100007F:1B9E 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 20 4 30 10 -1")
	f.Add("   0: 0100007F:A2A6 0100007F:1B9E 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1")
	f.Add("   1: 0000000000000000FFFF00000100007F:A2A6 0000000000000000FFFF00000100007F:1B9E 01 0:0 0:0 0 1000 0 4711 1")
	local, remote := netip.MustParseAddrPort("127.0.0.1:41638"), netip.MustParseAddrPort("127.0.0.1:7070")
	f.Fuzz(func(t *testing.T, table string) {
		uid, err := findSocket(strings.NewReader(table), local, remote)
		if err == nil && !strings.Contains(strings.ToUpper(table), "A2A6") {
			t.Fatalf("uid %d out of nowhere", uid)
		}
	})
}

func FuzzDiagAnswer(f *testing.F) {
	local, remote := netip.MustParseAddrPort("127.0.0.1:41638"), netip.MustParseAddrPort("127.0.0.1:7070")
	f.Add(diagRequest(local, remote))
	good := make([]byte, headerSize+answerSize)
	good[4], good[headerSize], good[headerSize+inodeOffset] = sockDiagByFamily, 2, 1
	copy(good[headerSize+idOffset:], diagRequest(local, remote)[headerSize+requestID:][:36])
	f.Add(good)
	if uid, err := diagAnswer(good, local, remote); err != nil || uid != 0 {
		f.Fatal(uid, err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if uid, err := diagAnswer(b, local, remote); err == nil && len(b) < headerSize+answerSize {
			t.Fatalf("uid %d from %d bytes", uid, len(b))
		}
	})
}
