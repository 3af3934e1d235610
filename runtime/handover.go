package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A hand-over replaces a running sidecar without anybody noticing. The new process asks the old one, over a unix socket beside
// the application's, for its sockets, and is passed them with the lock. It starts wholly, while the old one goes on serving;
// when it is ready it accepts, and says so. From then on the old one accepts no more, sends its clients away, to the same
// sockets, and ends. Until then the end of either process leaves the other in charge: sockets and lock are open in both.
//
// What the two say to each other is here, the new process's side in predecessor.go, the old one's in successor.go.
// docs/adr/0008-handover.md has the format. A sidecar must be able to talk to those of other versions.

const (
	handoverFormat = 1
	helloTime      = 15 * time.Second // for the other side to answer; one that hands over just now takes its time
	maxLine        = 64 << 10
)

// message is each line of a hand-over. A field that is not known is ignored.
type message struct {
	Handover int            `json:"handover"`          // the format: 1
	Version  string         `json:"version,omitempty"` // of the sidecar that speaks, for people
	PID      int            `json:"pid,omitempty"`
	Sockets  []handedSocket `json:"sockets,omitempty"` // in the order of the descriptors that come along
	Error    string         `json:"error,omitempty"`   // why there is none
	Taken    []string       `json:"taken,omitempty"`   // the sockets that the new sidecar accepts on from now on
}

type handedSocket struct {
	Name    string `json:"name"`
	Address string `json:"address,omitempty"` // as it was configured
	Kept    bool   `json:"kept,omitempty"`    // its path stays when the sidecar ends
}

func handoverPath(socket string) string { return strings.TrimSuffix(socket, ".sock") + ".handover" }

// link is one end of the connection that a hand-over is made on.
type link struct {
	nc    *net.UnixConn
	buf   []byte
	files []*os.File // that have come
}

func (l *link) close() { l.nc.Close() }

// send writes a line, and descriptors along with it.
func (l *link) send(m message, fds ...int) error {
	m.Handover, m.PID = handoverFormat, os.Getpid()
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = l.nc.WriteMsgUnix(append(text, '\n'), rights, nil)
	return err
}

// receive reads a line; descriptors that come with it are added to files.
func (l *link) receive() (m message, err error) {
	for {
		if line, rest, whole := bytes.Cut(l.buf, []byte("\n")); whole {
			l.buf = rest
			if err := json.Unmarshal(line, &m); err != nil {
				return m, fmt.Errorf("a line that is none of a hand-over: %w", err)
			}
			if m.Handover != handoverFormat {
				return m, fmt.Errorf("the other sidecar (version %s) hands over in format %d, this one in %d", m.Version, m.Handover, handoverFormat)
			}
			return m, nil
		}
		if len(l.buf) > maxLine {
			return m, errors.New("a line that is too long")
		}
		if err := l.read(); err != nil {
			return m, err
		}
	}
}

func (l *link) read() error {
	data, rights := make([]byte, 4<<10), make([]byte, unix.CmsgSpace(4*64))
	n, k, _, _, err := l.nc.ReadMsgUnix(data, rights)
	l.buf = append(l.buf, data[:max(n, 0)]...)
	controls, e := unix.ParseSocketControlMessage(rights[:max(k, 0)])
	for _, c := range controls {
		fds, _ := unix.ParseUnixRights(&c) // others bring none
		for _, fd := range fds {
			l.files = append(l.files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	return errors.Join(err, e)
}

func (l *link) within(d time.Duration) { l.nc.SetDeadline(time.Now().Add(d)) }
