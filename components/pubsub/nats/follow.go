package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	library "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// together is how many messages are asked for at once.
	together = 256
	// maxAsked bounds their bytes.
	maxAsked = 6 << 20
	// asked is how long the server keeps what it is asked.
	asked = 30 * time.Second
	// unused is after which time the server forgets that somebody reads.
	unused = 30 * time.Second
)

// entry is a message of a stream.
type entry struct {
	*library.Msg
	sequence uint64
	pending  uint64 // more of them, when it was sent
	at       time.Time
}

// follower reads messages of a stream in their order, without missing any. The server is told where it is whenever that may have been lost.
type follower struct {
	c        *conn
	stream   string
	subjects []string
	// where says with which sequence to begin, or that the last message of each subject is where.
	where func(ctx context.Context) (from uint64, last bool, err error)
	// begun, if it is given, is told how many messages there are at the beginning.
	begun func(n uint64)
	// take gets messages, one at least.
	take func(all []entry)
	// ready waits until more is wanted.
	ready func(ctx context.Context) error
}

// follow reads until it cannot any more, or ctx ends. Heard is called when it works.
func (f *follower) follow(ctx context.Context, heard func()) error {
	from, last, err := f.where(ctx)
	if err != nil {
		return err
	}
	config := jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, FilterSubjects: f.subjects, InactiveThreshold: unused, MemoryStorage: true, Replicas: 1,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1)}
	if last {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverLastPerSubjectPolicy, 0
	}
	var info *jetstream.ConsumerInfo
	err = f.c.call(ctx, func(ctx context.Context) error {
		made, err := f.c.js.CreateConsumer(ctx, f.stream, config)
		if err == nil {
			info = made.CachedInfo()
		}
		return err
	})
	if err != nil {
		return err
	}
	defer func() { // if that is lost the server finds out itself
		_ = f.c.out.Publish("$JS.API.CONSUMER.DELETE."+f.stream+"."+info.Name, nil)
	}()
	inbox := f.c.in.NewInbox()
	sub, err := f.c.in.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if f.begun != nil {
		f.begun(info.NumPending)
	}
	r := &requests{f: f, sub: sub, inbox: inbox, next: "$JS.API.CONSUMER.MSG.NEXT." + f.stream + "." + info.Name}
	for ctx.Err() == nil {
		if err := f.ready(ctx); err != nil {
			return err
		}
		all, err := r.read(ctx)
		if err != nil {
			return err
		}
		heard()
		if len(all) > 0 {
			f.take(all)
		}
	}
	return ctx.Err()
}

// requests are what the server is asked for messages.
type requests struct {
	f           *follower
	sub         *library.Subscription
	inbox, next string
	left        int    // of the last one
	came        uint64 // the consumer's number of the last message
}

var (
	errSilence = errors.New("the server has gone silent")
	errGap     = errors.New("messages were missed")
)

// read waits for messages; none: the server has nothing to say.
func (r *requests) read(ctx context.Context) (all []entry, err error) {
	beat := r.f.c.opts.Heartbeat
	if r.left == 0 {
		request, err := json.Marshal(map[string]any{"expires": asked, "batch": together, "max_bytes": max(maxAsked, r.f.c.in.MaxPayload()+maxAsked/4), "idle_heartbeat": min(beat, asked/3)})
		if err != nil {
			return nil, err
		}
		if err := r.f.c.in.PublishRequest(r.next, r.inbox, request); err != nil {
			return nil, err
		}
		r.left = together
	}
	for first := true; first || len(all) < 64; first = false {
		if !first {
			if n, _, err := r.sub.Pending(); err != nil || n == 0 {
				return all, nil
			}
		}
		m, err := r.one(ctx, 3*beat)
		if err != nil {
			return all, err
		}
		if !strings.HasPrefix(m.Reply, "$JS.ACK.") {
			if err := r.status(m.Header.Get("Status"), m.Header.Get("Description")); err != nil || r.left == 0 {
				return all, err
			}
			continue
		}
		about, err := m.Metadata()
		if err != nil {
			return all, fmt.Errorf("stream %s: %w", r.f.stream, err)
		}
		if about.Sequence.Consumer != r.came+1 {
			return all, errGap
		}
		r.came, r.left = about.Sequence.Consumer, r.left-1
		all = append(all, entry{m, about.Sequence.Stream, about.NumPending, about.Timestamp})
	}
	return all, nil
}

func (r *requests) one(ctx context.Context, patience time.Duration) (*library.Msg, error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := r.sub.NextMsgWithContext(limited)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return nil, errSilence
	}
	return m, err
}

// status is what the server says instead of a message.
func (r *requests) status(code, text string) error {
	switch {
	case code == "100": // it is there
		return nil
	case code == "408", code == "404", code == "409" && (text == "Message Size Exceeds MaxBytes" || text == "Batch Completed"):
		r.left = 0 // it is to be asked again
		return nil
	}
	return fmt.Errorf("the server says %s %s", code, text)
}
