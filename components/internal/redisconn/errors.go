package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

var (
	errNotSent    = errors.New("the server does not answer those who came before")
	errUnanswered = errors.New("there is no answer")
	errOfCluster  = errors.New("it is one of a cluster, which mode: cluster is for")
	errNotKept    = errors.New("no replica has confirmed it in time")
)

// What a server's answer begins with.
var (
	refusals = []string{"NOAUTH", "WRONGPASS", "NOPERM"}
	outages  = []string{"LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "MISCONF", "BUSY ", "MOVED", "ASK ", "UNBLOCKED",
		"ERR max number of clients"}
)

// Err says of what a command failed with what its caller can do. What it has no word for stays as it is, such as a script's own errors.
func (c *Client) Err(ctx context.Context, kind Kind, err error) error {
	var told redis.Error
	switch {
	case err == nil || errors.Is(err, components.ErrUnavailable):
		return err
	case errors.Is(err, errNotKept):
		return backend.Unknown(ctx, c.where, err)
	case begins(err.Error(), []string{"redis: all sentinels"}) && errors.Is(err, redis.Nil): // which says nothing of a key
		return backend.Unreachable(ctx, c.where, fmt.Errorf("the sentinels know no primary %q", c.options.Master))
	case errors.As(err, &told):
		return c.told(ctx, told, err)
	case kind == Read || unsent(err):
		return backend.Unreachable(ctx, c.where, err)
	default:
		return backend.Unknown(ctx, c.where, err)
	}
}

// told is of an error that a server has answered: it has not done the command.
func (c *Client) told(ctx context.Context, told redis.Error, err error) error {
	switch text := told.Error(); {
	case begins(text, refusals):
		return backend.Refused(c.where, err)
	case begins(text, outages):
		return backend.Unreachable(ctx, c.where, err)
	case strings.HasPrefix(text, "OOM"):
		return fmt.Errorf("%w: %s has no memory left: %w", components.ErrExhausted, c.where, err)
	default:
		return err
	}
}

// named is err with where it comes from, if it does not say so.
func (c *Client) named(ctx context.Context, err error) error {
	if errors.Is(err, components.ErrUnavailable) {
		return err
	}
	return backend.Unreachable(ctx, c.where, err)
}

func begins(text string, with []string) bool {
	for _, w := range with {
		if strings.HasPrefix(text, w) {
			return true
		}
	}
	return false
}

// unsent tells whether err is of a connection that was not to be had.
func unsent(err error) bool {
	var network *net.OpError
	var certificate *tls.CertificateVerificationError
	return errors.Is(err, errNotSent) || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) || errors.Is(err, redis.ErrClosed) ||
		errors.As(err, &certificate) || errors.As(err, &network) && network.Op == "dial"
}

// lost tells whether err is no answer of a server.
func lost(err error) bool {
	var told redis.Error
	return err != nil && !errors.As(err, &told)
}

// moved tells whether another server of the cluster has the key.
func moved(err error) bool {
	_, moved := redis.IsMovedError(err)
	_, ask := redis.IsAskError(err)
	return moved || ask
}
