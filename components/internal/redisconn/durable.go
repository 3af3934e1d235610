package redisconn

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
)

// Durable refuses, with ErrPrecondition, servers that may lose what they have acknowledged: all primaries must write and sync before
// they answer, evict nothing, and refuse writes without a replica where one of those may take over.
func (c *Client) Durable(ctx context.Context) error {
	var mu sync.Mutex
	var faults []error
	err := c.primaries(ctx, func(ctx context.Context, node *redis.Client) error {
		settings, err := node.ConfigGet(ctx, "[am][ipa][npx]*").Result()
		if err != nil {
			return err
		}
		for _, fault := range lossy(settings, c.replicated.Load()) {
			mu.Lock()
			faults = append(faults, fmt.Errorf("%s: %s", node.Options().Addr, fault))
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		var told redis.Error
		if !errors.As(err, &told) {
			return c.Err(ctx, Read, err)
		}
		faults = append(faults, fmt.Errorf("%s does not show its settings: %w", c.where, err))
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: acknowledged writes could be lost: %w; allow_loss: true takes that", components.ErrPrecondition, errors.Join(faults...))
}

// lossy are the settings that let a server lose what it has acknowledged.
func lossy(settings map[string]string, replicated bool) []string {
	var faults []string
	if settings["appendonly"] != "yes" || settings["appendfsync"] != "always" {
		faults = append(faults, fmt.Sprintf("appendonly is %q and appendfsync %q, needed are yes and always", settings["appendonly"], settings["appendfsync"]))
	}
	if policy := settings["maxmemory-policy"]; policy != "noeviction" && settings["maxmemory"] != "0" {
		faults = append(faults, fmt.Sprintf("maxmemory-policy is %q, needed is noeviction", policy))
	}
	if n, _ := strconv.Atoi(settings["min-replicas-to-write"]); replicated && n < 1 {
		faults = append(faults, "min-replicas-to-write is 0, needed is 1")
	}
	return faults
}

// primaries does something at each server that takes writes.
func (c *Client) primaries(ctx context.Context, do func(context.Context, *redis.Client) error) error {
	if c.cluster != nil {
		return c.cluster.ForEachMaster(ctx, do)
	}
	return do(ctx, c.redis.(*redis.Client))
}

// look refuses one server of a cluster in another mode: it would have some of the keys only. Users who may not ask are let pass.
func (c *Client) look(ctx context.Context) error {
	if c.cluster != nil {
		return nil
	}
	text, err := c.redis.(*redis.Client).Info(ctx, "cluster").Result()
	switch {
	case strings.Contains(text, "cluster_enabled:1"):
		return c.Err(ctx, Read, errOfCluster)
	case lost(err):
		return c.Err(ctx, Read, err)
	}
	return nil
}
