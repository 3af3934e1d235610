package client_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	secretv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/secret/v1"
)

type config struct {
	configv1.UnimplementedConfigServer
	w *world
}

func (c config) Get(_ context.Context, in *configv1.GetRequest) (*configv1.GetResponse, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	item := c.w.config[in.GetKey()]
	if item == nil {
		return nil, absent(in.GetKey())
	}
	return &configv1.GetResponse{Item: item}, nil
}

func (c config) Set(_ context.Context, in *configv1.SetRequest) (*configv1.SetResponse, error) {
	out := &configv1.SetResponse{}
	var err error
	c.w.edit(func(version string) {
		if in.GetIfVersion() != "" && c.w.config[in.GetKey()].GetVersion() != in.GetIfVersion() {
			err = problem(codes.Aborted, "VERSION_MISMATCH", "another version is there")
			return
		}
		out.Version = version
		c.w.config[in.GetKey()] = &configv1.Item{Key: in.GetKey(), Value: in.GetValue(), ContentType: in.GetContentType(),
			Version: version, Metadata: in.GetMetadata()}
	})
	return out, err
}

func (c config) Delete(_ context.Context, in *configv1.DeleteRequest) (*configv1.DeleteResponse, error) {
	c.w.edit(func(string) { delete(c.w.config, in.GetKey()) })
	return &configv1.DeleteResponse{}, nil
}

// List has pages of two.
func (c config) List(_ context.Context, in *configv1.ListRequest) (*configv1.ListResponse, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if in.GetPrefix() == "bad" && in.GetPageToken() != "" {
		return nil, problem(codes.InvalidArgument, "PAGE_TOKEN_INVALID", "bad page")
	}
	out := &configv1.ListResponse{}
	keys, next := page(slices.Sorted(maps.Keys(c.w.config)), in.GetPrefix(), in.GetPageToken())
	for _, key := range keys {
		out.Items = append(out.Items, c.w.config[key])
	}
	out.NextPageToken = next
	return out, nil
}

func page(keys []string, prefix, token string) (some []string, next string) {
	keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, prefix) })
	from, _ := strconv.Atoi(token)
	to := min(from+2, len(keys))
	if to < len(keys) {
		next = strconv.Itoa(to)
	}
	return keys[from:to], next
}

func (c config) Watch(in *configv1.WatchRequest, s grpc.ServerStreamingServer[configv1.WatchResponse]) error {
	c.w.watching(+1)
	defer c.w.watching(-1)
	sent := map[string]string{}
	for initial := true; ; initial = false {
		c.w.mu.Lock()
		err := c.w.fail
		c.w.fail = nil
		m := c.changes(in, sent, initial)
		changed, reloaded := c.w.changed, c.w.reloaded
		c.w.mu.Unlock()
		if err != nil {
			return err
		}
		if initial || len(m.GetChanges()) > 0 {
			if err := s.Send(m); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-reloaded:
			return problem(codes.Unavailable, "RELOADED", "the component was reloaded")
		case <-s.Context().Done():
			return nil
		}
	}
}

func (w *world) watching(n int) (open int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watches += n
	return w.watches
}

func (c config) changes(in *configv1.WatchRequest, sent map[string]string, initial bool) *configv1.WatchResponse {
	m := &configv1.WatchResponse{Initial: initial}
	for _, key := range slices.Sorted(maps.Keys(c.w.config)) {
		item := c.w.config[key]
		watched := slices.Contains(in.GetKeys(), key) || slices.ContainsFunc(in.GetPrefixes(), func(p string) bool { return strings.HasPrefix(key, p) })
		if watched && sent[key] != item.GetVersion() {
			sent[key] = item.GetVersion()
			m.Changes = append(m.Changes, &configv1.WatchResponse_Change{Key: key, Item: item})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(sent)) {
		if c.w.config[key] == nil {
			delete(sent, key)
			m.Changes = append(m.Changes, &configv1.WatchResponse_Change{Key: key})
		}
	}
	return m
}

type secret struct {
	secretv1.UnimplementedSecretServer
}

var secrets = map[string]string{"db": "hunter2", "mail": "pa55", "sms": "s3cret"}

func (secret) Get(_ context.Context, in *secretv1.GetRequest) (*secretv1.GetResponse, error) {
	value, ok := secrets[in.GetKey()]
	if !ok {
		return nil, absent(in.GetKey())
	}
	return &secretv1.GetResponse{Value: []byte(value), Version: "1"}, nil
}

func (s secret) GetMany(ctx context.Context, in *secretv1.GetManyRequest) (*secretv1.GetManyResponse, error) {
	out := &secretv1.GetManyResponse{}
	for _, key := range in.GetKeys() {
		one := &secretv1.GetManyResponse_Result{Key: key}
		value, err := s.Get(ctx, &secretv1.GetRequest{Key: key})
		if one.Secret = value; err != nil {
			one.Error = &commonv1.Failure{Code: int32(codes.NotFound), Reason: "KEY_NOT_FOUND"}
		}
		out.Results = append(out.Results, one)
	}
	return out, nil
}

func (secret) List(_ context.Context, in *secretv1.ListRequest) (*secretv1.ListResponse, error) {
	keys, next := page(slices.Sorted(maps.Keys(secrets)), in.GetPrefix(), in.GetPageToken())
	return &secretv1.ListResponse{Keys: keys, NextPageToken: next}, nil
}
