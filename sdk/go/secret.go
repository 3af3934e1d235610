package client

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"

	secretv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/secret/v1"
)

// Secrets is a secret component.
type Secrets struct {
	component string
	api       secretv1.SecretClient
}

// Secret is the secret component of that name; empty means "default".
func (c *Client) Secret(name string) *Secrets {
	return &Secrets{name, secretv1.NewSecretClient(c.API())}
}

// Secret is a secret's value. It prints, logs and marshals as ***; Reveal gives it.
type Secret struct {
	value   *[]byte // fmt looks through the unexported fields of others without asking, but follows no pointer there
	Version string
}

const masked = "***"

func (s Secret) Reveal() []byte {
	if s.value == nil {
		return nil
	}
	return *s.value
}

func (s Secret) String() string               { return masked }
func (s Secret) GoString() string             { return masked }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(masked) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// Format is for all verbs: one that does not fit, such as %d, shows no more than the others.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, masked) }

func secret(r *secretv1.GetResponse) Secret {
	value := r.GetValue()
	return Secret{&value, r.GetVersion()}
}

// Get fails with ErrNotFound for a key that is absent.
func (s *Secrets) Get(ctx context.Context, key string) (Secret, error) {
	r, err := s.api.Get(ctx, &secretv1.GetRequest{Component: s.component, Key: key})
	if err != nil {
		return Secret{}, err
	}
	return secret(r), nil
}

// SecretResult is what GetMany answers for one key.
type SecretResult struct {
	Key    string
	Secret Secret
	Err    error // ErrNotFound for an absent key
}

// GetMany answers one result for each of up to 1000 keys, in their order. It fails only as a whole.
func (s *Secrets) GetMany(ctx context.Context, keys ...string) ([]SecretResult, error) {
	r, err := s.api.GetMany(ctx, &secretv1.GetManyRequest{Component: s.component, Keys: keys})
	if err != nil {
		return nil, err
	}
	results := make([]SecretResult, 0, len(keys))
	for _, one := range r.GetResults() {
		results = append(results, SecretResult{one.GetKey(), secret(one.GetSecret()), failure(one.GetError())})
	}
	return results, nil
}

// List goes through the keys that begin with prefix, in their order; see Config.List.
func (s *Secrets) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return pages(func(page string) ([]string, string, error) {
		r, err := s.api.List(ctx, &secretv1.ListRequest{Component: s.component, Prefix: prefix, PageToken: page})
		return r.GetKeys(), r.GetNextPageToken(), err
	})
}
