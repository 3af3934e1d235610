package grpcproxy

import (
	"testing"
	"testing/synctest"
)

// A client that gives no credit and resets what waits for it leaves nothing behind, however often it does so.
func TestResetOfBlockedStreams(t *testing.T) {
	inBubble(t, &Relay{}, func(x *between) {
		x.client.write(appendSettings(nil, setWindow, 1<<20))
		for i := range uint32(50) {
			x.client.request(2*i+1, true)
			id, _ := x.take()
			x.server.write(appendList(nil, &x.server.enc, id, 0, okHeaders))
			for range 5 { // more than the connection's window
				x.server.write(append(appendFrame(nil, maxFrame, fData, 0, id), make([]byte, maxFrame)...))
			}
			synctest.Wait()
			x.client.write(appendU32(nil, fReset, 2*i+1, codeCancel))
		}
		x.settled()
	})
}
