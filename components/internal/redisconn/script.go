package redisconn

import (
	"context"
	"crypto/sha1" //nolint:gosec // it is how Redis names scripts
	"encoding/hex"

	"github.com/redis/go-redis/v9"
)

// Script is a program in Lua, which a server does in one step.
type Script struct{ text, sha string }

// NewScript makes one.
func NewScript(text string) Script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // the same
	return Script{text, hex.EncodeToString(sum[:])}
}

// Eval runs a script by its name, and tells a server that does not know it yet. keys has at least one; in a cluster one server must
// have them all. The rules of Do hold for keys and arguments.
func (c *Client) Eval(ctx context.Context, kind Kind, s Script, keys []string, args ...any) (any, error) {
	cmd := s.cmd(ctx, "evalsha", s.sha, keys, args)
	err := c.Do(ctx, kind, keys[0], cmd)
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		cmd = s.cmd(ctx, "eval", s.text, keys, args)
		err = c.Do(ctx, kind, keys[0], cmd)
	}
	if err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}

func (Script) cmd(ctx context.Context, name, what string, keys []string, args []any) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, name, what, len(keys))
	for _, key := range keys {
		all = append(all, key)
	}
	return redis.NewCmd(ctx, append(all, args...)...)
}
