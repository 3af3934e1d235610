// Package env serves secrets from the sidecar's environment: the secret KEY is the variable PREFIXKEY. Variables without the
// prefix cannot be asked for, so that an application does not get to see what else the sidecar was given.
package env

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/secret"
)

func init() {
	components.Register(secret.Drivers, "env", Options{Prefix: "OUTRIGGER_SECRET_"}, Open)
}

// Options of the driver.
type Options struct {
	Prefix string `yaml:"prefix" doc:"what the variables' names begin with; the rest is the key, upper and lower case as they are"`
}

// Validate refuses a prefix that would open the whole environment.
func (o Options) Validate() error {
	if o.Prefix == "" {
		return errors.New("prefix: without one the whole environment of the sidecar would be readable")
	}
	if strings.ContainsAny(o.Prefix, "=\x00") {
		return fmt.Errorf("prefix: %q cannot begin a variable's name", o.Prefix)
	}
	return nil
}

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- Only variables whose names begin with the prefix are readable, under the rest of their name.
- Values do not change while the sidecar runs. Versions tell values apart within one run, and nothing about them.`
}

// Open makes an instance.
func Open(_ context.Context, _ components.Env, o Options) (secret.Driver, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &store{prefix: o.Prefix, salt: []byte(rand.Text())}, nil
}

type store struct {
	prefix string
	salt   []byte
}

var _ components.Instant = (*store)(nil)

// Instant says that no call waits.
func (*store) Instant() {}

func (s *store) Get(_ context.Context, key string) (secret.Value, error) {
	value, ok := os.LookupEnv(s.prefix + key)
	if !ok || key == "" {
		return secret.Value{}, fmt.Errorf("%w: no variable %q", components.ErrNotFound, s.prefix+key)
	}
	return secret.Value{Data: secret.Data(value), Version: s.version(value)}, nil
}

// version is salted: from a plain hash a short secret could be guessed.
func (s *store) version(value string) string {
	h := hmac.New(sha256.New, s.salt)
	h.Write([]byte(value))
	return hex.EncodeToString(h.Sum(nil)[:12])
}

func (s *store) List(_ context.Context, prefix, after string, limit int) (keys []string, err error) {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if key, ok := strings.CutPrefix(name, s.prefix); ok && key != "" && strings.HasPrefix(key, prefix) && key > after {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	return keys[:min(limit, len(keys))], nil
}
