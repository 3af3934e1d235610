package redisconn

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components"
)

// Joined is a Client as one component uses it. It must be closed.
type Joined struct {
	*Client
	Prefix string // what the component's keys begin with

	release func()
}

// Join opens a component's share in a client. The user must be allowed to run scripts on the component's keys.
func Join(ctx context.Context, env components.Env, o Options, capability string) (*Joined, error) {
	client, release, err := Open(ctx, env, o)
	if err != nil {
		return nil, err
	}
	j := &Joined{client, o.Keys(capability, env.ID.Name), release}
	if _, err := j.Eval(ctx, Read, nothing, []string{j.Prefix}); err != nil {
		release()
		return nil, client.named(ctx, err)
	}
	return j, nil
}

var nothing = NewScript("return 1")

// Close lets go of the client. It may be called again.
func (j *Joined) Close(context.Context) error {
	j.release()
	return nil
}
