package client

import (
	"context"
	"iter"

	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
)

// Config is a configuration component.
type Config struct {
	client    *Client
	component string
	api       configv1.ConfigClient
}

// Config is the configuration component of that name; empty means "default".
func (c *Client) Config(name string) *Config {
	return &Config{c, name, configv1.NewConfigClient(c.API())}
}

// ConfigItem is a configuration value with what belongs to it.
type ConfigItem struct {
	Key         string
	Value       []byte
	ContentType string
	Version     string // differs between any two values of a key
	Metadata    map[string]string
	Stale       bool // the back end could not be asked: this is the last value that was seen
}

func configItem(i *configv1.Item) ConfigItem {
	return ConfigItem{i.GetKey(), i.GetValue(), i.GetContentType(), i.GetVersion(), i.GetMetadata(), i.GetStale()}
}

// Get fails with ErrNotFound for a key that is absent.
func (c *Config) Get(ctx context.Context, key string) (ConfigItem, error) {
	r, err := c.api.Get(ctx, &configv1.GetRequest{Component: c.component, Key: key})
	if err != nil {
		return ConfigItem{}, err
	}
	return configItem(r.GetItem()), nil
}

// Set stores the value, content type and metadata of item under its key, and answers the version. It fails with
// ErrUnsupported where the component is read-only.
func (c *Config) Set(ctx context.Context, item ConfigItem, when ...IfVersion) (version string, err error) {
	expect, err := onlyVersion(when)
	if err != nil {
		return "", err
	}
	r, err := c.api.Set(ctx, &configv1.SetRequest{Component: c.component, Key: item.Key, Value: item.Value,
		ContentType: item.ContentType, Metadata: item.Metadata, IfVersion: expect})
	return r.GetVersion(), err
}

// Delete removes a key; that it was absent is no error.
func (c *Config) Delete(ctx context.Context, key string) error {
	_, err := c.api.Delete(ctx, &configv1.DeleteRequest{Component: c.component, Key: key})
	return err
}

// List goes through the items whose keys begin with prefix, in the order of their keys. It asks for a page when it comes to it.
// After an error, which has no item, it ends.
func (c *Config) List(ctx context.Context, prefix string) iter.Seq2[ConfigItem, error] {
	return pages(func(page string) ([]ConfigItem, string, error) {
		r, err := c.api.List(ctx, &configv1.ListRequest{Component: c.component, Prefix: prefix, PageToken: page})
		if err != nil {
			return nil, "", err
		}
		items := make([]ConfigItem, 0, len(r.GetItems()))
		for _, i := range r.GetItems() {
			items = append(items, configItem(i))
		}
		return items, r.GetNextPageToken(), nil
	})
}

// pages makes one sequence of what list answers page by page.
func pages[T any](list func(page string) (items []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for page := ""; ; {
			items, next, err := list(page)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if page = next; page == "" {
				return
			}
		}
	}
}
