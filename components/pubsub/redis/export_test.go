package redis

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// Compare is the comparison of a consumer that says it has nothing, as one that was asked at that time of the server's, in milliseconds. It answers
// how much was given back.
func Compare(ctx context.Context, d pubsub.Driver, t pubsub.Topic, group, consumer string, asked int64) (back int64, err error) {
	one := d.(*driver)
	s := &session{d: one, topic: t, group: group, consumer: consumer, keys: []string{one.stream(t), one.group(t, group)}}
	answer, err := s.eval(ctx, compareScript, asked)
	if err == nil {
		back, _ = answer[0].(int64)
	}
	return back, err
}
