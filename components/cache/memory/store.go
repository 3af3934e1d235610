package memory

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"runtime"
	"strconv"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

func (s *store) shardOf(key string) (sh *shard, hash uint64) {
	hash = maphash.String(s.seed, key)
	return &s.shards[hash%shards], hash
}

func (s *store) Get(_ context.Context, key string) (cache.Item, error) {
	sh, _ := s.shardOf(key)
	c, left, ok := sh.get(key, s.now)
	if !ok {
		return cache.Item{}, components.ErrNotFound
	}
	// Written values are never changed, only replaced: the copy needs no lock.
	return cache.Item{
		Value: bytes.Clone(c.value), ContentType: c.contentType, Version: c.version,
		Metadata: maps.Clone(c.metadata), TTL: left,
	}, nil
}

func (s *store) Exists(_ context.Context, key string) (bool, error) {
	sh, _ := s.shardOf(key)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.peek(key, s.now()) != nil, nil
}

func (s *store) Set(_ context.Context, key string, item cache.Item, opts cache.SetOptions) (string, error) {
	size := sizeOf(key, len(item.Value), item.ContentType, item.Metadata)
	if limit := int64(s.options.MaxItemBytes); size > limit {
		err := fmt.Errorf("%w: the item takes %d bytes, max_item_bytes is %d", components.ErrExhausted, size, limit)
		return "", components.WithReason(err, ReasonItemTooLarge, "limit", "max_item_bytes")
	}
	if opts.Condition != (cache.Condition{}) {
		// A condition that fails now would fail later, and should not cost others their items.
		if err := s.check(key, opts.Condition); err != nil {
			return "", err
		}
	}
	fresh := content{value: bytes.Clone(item.Value), contentType: item.ContentType, metadata: maps.Clone(item.Metadata)}
	return s.write(key, size, func(old *entry, now int64) (content, int64, error) {
		return fresh, expiry(now, item.TTL), holds(opts.Condition, old)
	})
}

// change makes the content that is to take the place of an entry, nil if there is none, and says when it expires.
type change func(old *entry, now int64) (fresh content, expires int64, err error)

// write replaces an item by what change makes of it, in one step. size is what the new one takes at most.
func (s *store) write(key string, size int64, change change) (version string, err error) {
	if err := s.reserve(size); err != nil {
		return "", err
	}
	sh, hash := s.shardOf(key)
	sh.mu.Lock()
	now := s.now()
	old, freed := sh.live(key, now)
	fresh, expires, err := change(old, now)
	if err == nil {
		sh.serial++
		fresh.version = s.version(hash%shards, sh.serial)
		freed -= sh.put(old, key, hash, fresh, expires)
	}
	sh.mu.Unlock()
	s.used.Add(-size - freed)
	return fresh.version, err
}

// version is unique: the shard's number is the last digit of a count that each shard has for itself.
func (s *store) version(shard, serial uint64) string {
	b := make([]byte, 0, 32)
	b = append(append(b, s.boot...), '-')
	return string(strconv.AppendUint(b, serial*shards+shard, 36))
}

// reserve makes room before something is written, so that max_bytes is a bound and not an average.
func (s *store) reserve(size int64) error {
	s.used.Add(size)
	for fruitless := 0; s.used.Load() > int64(s.options.MaxBytes); {
		freed := s.shards[s.hand.Add(1)%shards].evict(s.now())
		if freed > 0 {
			s.used.Add(-freed)
			s.evicted.Add(1)
			fruitless = 0
			continue
		}
		if fruitless++; fruitless > 4*shards {
			s.used.Add(-size)
			err := fmt.Errorf("%w: writes under way take all of max_bytes (%s)", components.ErrExhausted, s.options.MaxBytes)
			return components.WithReason(err, components.ReasonOverloaded, "limit", "max_bytes")
		}
		runtime.Gosched()
	}
	return nil
}

func (s *store) check(key string, when cache.Condition) error {
	sh, _ := s.shardOf(key)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return holds(when, sh.peek(key, s.now()))
}

func holds(when cache.Condition, old *entry) error {
	switch {
	case when.IfAbsent && old != nil:
		return components.ErrExists
	case when.IfVersion != "" && (old == nil || old.version != when.IfVersion):
		return components.ErrConflict
	}
	return nil
}

func expiry(now int64, ttl time.Duration) int64 {
	if ttl == 0 {
		return never
	}
	return now + int64(ttl)
}

func (s *store) Delete(_ context.Context, key string, opts cache.DeleteOptions) error {
	sh, _ := s.shardOf(key)
	sh.mu.Lock()
	old, freed := sh.live(key, s.now())
	err := holds(cache.Condition{IfVersion: opts.IfVersion}, old)
	if err == nil && old != nil {
		freed += sh.remove(old)
	}
	sh.mu.Unlock()
	s.used.Add(-freed)
	return err
}

func (s *store) Touch(_ context.Context, key string, ttl time.Duration) error {
	sh, _ := s.shardOf(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := s.now()
	old, freed := sh.live(key, now)
	s.used.Add(-freed)
	if old == nil {
		return components.ErrNotFound
	}
	sh.expiring.set(old, expiry(now, ttl))
	return nil
}

func (s *store) Increment(_ context.Context, key string, delta int64, ttl time.Duration) (sum int64, err error) {
	const digits = len("-9223372036854775808")
	most := sizeOf(key, digits, "", nil)
	_, err = s.write(key, most, func(old *entry, now int64) (content, int64, error) {
		if old == nil {
			sum = delta
			return content{value: strconv.AppendInt(nil, sum, 10)}, expiry(now, ttl), nil
		}
		n, err := strconv.ParseInt(string(old.value), 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != string(old.value) {
			return content{}, 0, fmt.Errorf("%w: the value is not a decimal integer of 64 bits", components.ErrInvalid)
		}
		if delta > 0 && n > math.MaxInt64-delta || delta < 0 && n < math.MinInt64-delta {
			return content{}, 0, fmt.Errorf("%w: the sum would leave the range of 64 bits", components.ErrInvalid)
		}
		sum = n + delta
		fresh := old.content
		fresh.value = strconv.AppendInt(nil, sum, 10)
		return fresh, old.expires, nil
	})
	if err != nil {
		return 0, err
	}
	return sum, nil
}
