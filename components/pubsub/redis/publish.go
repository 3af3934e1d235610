package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// publishScript answers of each event its id, or why it is not stored.
var publishScript = redisconn.NewScript(`
local stream, repeats = KEYS[1], KEYS[2]
local channel, retention, most, ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local time = redis.call('TIME')
local oldest = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - retention)
local out, failed, stored = {}, {}, false
for i = 5, #ARGV, 6 do
  local key, once, print, id, size, event = ARGV[i], ARGV[i+1], ARGV[i+2], ARGV[i+3], ARGV[i+4], ARGV[i+5]
  local first = once ~= '' and redis.call('GET', repeats .. once)
  if key ~= '' and failed[key] then
    out[#out+1] = 'skipped'
  elseif first and string.sub(first, 1, 32) ~= print then
    out[#out+1] = 'reused'
    failed[key] = true
  elseif first then
    out[#out+1] = 'id:' .. string.sub(first, 33)
  else
    if key ~= '' then
      redis.call('XADD', stream, 'MINID', '~', oldest, '*', 'e', event, 'z', size, 'k', key)
    else
      redis.call('XADD', stream, 'MINID', '~', oldest, '*', 'e', event, 'z', size)
    end
    if once ~= '' then
      redis.call('SET', repeats .. once, print .. id, 'PX', ttl)
    end
    out[#out+1] = 'id:' .. id
    stored = true
  end
end
if stored then
  redis.call('XTRIM', stream, 'MAXLEN', '~', most)
  redis.call('PUBLISH', channel, '')
end
return out
`)

// Publish implements pubsub.Driver.
func (d *driver) Publish(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
	results := make([]pubsub.Result, len(events))
	var topics []pubsub.Topic
	places := map[pubsub.Topic][]int{}
	for i := range events {
		t := events[i].Topic
		if places[t] == nil {
			topics = append(topics, t)
		}
		places[t] = append(places[t], i)
	}
	for _, t := range topics {
		if err := d.publish(ctx, t, events, places[t], results); err != nil {
			return nil, err
		}
	}
	return results, nil
}

func (d *driver) publish(ctx context.Context, t pubsub.Topic, events []pubsub.Publication, places []int, results []pubsub.Result) error {
	args := make([]any, 0, 4+6*len(places))
	args = append(args, d.channel(t), d.opts.Retention.Milliseconds(), d.opts.MaxEvents, d.opts.Idempotency.Milliseconds())
	for _, i := range places {
		e := &events[i]
		args = append(args, e.Event.OrderingKey, e.IdempotencyKey, string(e.Fingerprint), e.Event.ID, e.Event.Size(), encode(&e.Event))
	}
	answer, err := d.Eval(ctx, redisconn.Kept, publishScript, []string{d.stream(t), d.Prefix + "i/" + topicKey(t) + "\x00"}, args...)
	if err != nil {
		return err
	}
	all, _ := answer.([]any)
	if len(all) != len(places) {
		return fmt.Errorf("%s answers %d results for %d events", d.Where(), len(all), len(places))
	}
	for j, i := range places {
		switch text, _ := all[j].(string); text {
		case "reused":
			results[i].Err = pubsub.Reused()
		case "skipped":
			results[i].Err = pubsub.Skipped()
		default:
			results[i].ID = text[len("id:"):]
		}
	}
	return nil
}

// record is an event as it is kept. Its ordering key has a field of its own beside it.
type record struct {
	ID          string            `cbor:"1,keyasint"`
	Source      string            `cbor:"2,keyasint"`
	Type        string            `cbor:"3,keyasint"`
	Subject     string            `cbor:"4,keyasint,omitempty"`
	Seconds     int64             `cbor:"5,keyasint,omitempty"`
	Nanos       int64             `cbor:"6,keyasint,omitempty"`
	ContentType string            `cbor:"7,keyasint,omitempty"`
	Data        []byte            `cbor:"8,keyasint,omitempty"`
	Metadata    map[string]string `cbor:"9,keyasint,omitempty"`
	NoTime      bool              `cbor:"10,keyasint,omitempty"`
}

func encode(e *pubsub.Event) []byte {
	r := record{ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, ContentType: e.ContentType, Data: e.Data, Metadata: e.Metadata,
		Seconds: e.Time.Unix(), Nanos: int64(e.Time.Nanosecond()), NoTime: e.Time.IsZero()}
	b, err := cbor.Marshal(&r)
	if err != nil {
		panic(err) // these fields cannot fail
	}
	return b
}

// decode reads an entry of the stream. One that somebody else has added is an event with its fields as metadata.
func decode(id string, fields map[string]string) (pubsub.Event, error) {
	raw, ours := fields["e"]
	if !ours {
		e := pubsub.Event{ID: id, Data: []byte(fields["data"]), OrderingKey: fields["k"], Metadata: map[string]string{}}
		for name, value := range fields {
			if name != "data" && name != "k" && name != "z" {
				e.Metadata[name] = value
			}
		}
		return e, nil
	}
	var r record
	if err := cbor.Unmarshal([]byte(raw), &r); err != nil {
		return pubsub.Event{}, fmt.Errorf("%w: event %s: %w", components.ErrDamaged, id, err)
	}
	e := pubsub.Event{ID: r.ID, Source: r.Source, Type: r.Type, Subject: r.Subject, ContentType: r.ContentType, Data: r.Data, Metadata: r.Metadata,
		OrderingKey: fields["k"]}
	if !r.NoTime {
		e.Time = time.Unix(r.Seconds, r.Nanos).UTC()
	}
	return e, nil
}
