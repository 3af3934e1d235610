package config_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// The drivers of these tests belong to no build: the package knows none by name.
type memoryOptions struct {
	MaxBytes components.Size   `yaml:"max_bytes" doc:"what it holds at most"`
	Shards   int               `yaml:"shards"`
	Timeout  time.Duration     `yaml:"timeout" doc:"for one command"`
	Hosts    []string          `yaml:"hosts"`
	Labels   map[string]string `yaml:"labels"`
	Weights  []int             `yaml:"weights"`
	Mark     mark              `yaml:"mark"`
	Lazy     bool              `yaml:"lazy"`
	Ratio    float64           `yaml:"ratio"`
	Small    uint8             `yaml:"small"`
	Mode     string            `yaml:"mode" enum:"lru,fifo"`
}

// mark reads a reference more gladly than its value.
type mark struct{ text string }

func (m *mark) UnmarshalText(text []byte) error {
	if string(text) == "hunter2" {
		return fmt.Errorf("%s is not a mark", text)
	}
	m.text = string(text)
	return nil
}

func (m mark) MarshalText() ([]byte, error) { return []byte(m.text), nil }

type redisOptions struct {
	Redis   connection    `yaml:"redis"`
	Timeout time.Duration `yaml:"timeout"`
}

type connection struct {
	Addr     string            `yaml:"addr" doc:"HOST:PORT"`
	Password components.Secret `yaml:"password"`
	Database int               `yaml:"database"`
}

func (o redisOptions) Validate() error {
	var faults []error
	if o.Redis.Addr == "" {
		faults = append(faults, errors.New("redis.addr is missing"))
	}
	if o.Timeout > time.Minute {
		faults = append(faults, fmt.Errorf("timeout: %v is more than a minute", o.Timeout))
	}
	switch o.Redis.Addr {
	case "nowhere", "no":
		faults = append(faults, fmt.Errorf("redis.addr %s is not HOST:PORT", o.Redis.Addr))
	case "hunter2":
		faults = append(faults, fmt.Errorf("redis.addr: tcp/%s/: not HOST:PORT", o.Redis.Addr))
	}
	return errors.Join(faults...)
}

type vaultOptions struct {
	Token components.Secret `yaml:"token"`
}

type nothing struct{}

func open[O any](context.Context, components.Env, O) (any, error) { return nil, nil }

func catalogs() []components.Catalog {
	cache := components.NewPrivateRegistry[any]("cache")
	components.Register(cache, "memory", memoryOptions{MaxBytes: 64 << 20, Shards: 16, Timeout: time.Second, Mode: "lru", Weights: []int{}, Labels: map[string]string{"a": "b"}}, open[memoryOptions])
	components.Register(cache, "redis", redisOptions{Timeout: 3 * time.Second}, open[redisOptions])
	secret := components.NewPrivateRegistry[any]("secret")
	components.Register(secret, "env", nothing{}, open[nothing])
	components.Register(secret, "vault", vaultOptions{}, open[vaultOptions])
	registry := components.NewPrivateRegistry[any]("registry")
	components.Register(registry, "file", nothing{}, open[nothing])
	return []components.Catalog{cache, secret, registry}
}

// world is an environment in a map: paths begin with a slash, all else is a variable.
type world map[string]string

func (w world) environment() config.Environment {
	return config.Environment{
		Catalogs:  catalogs(),
		LookupEnv: func(name string) (string, bool) { v, ok := w[name]; return v, ok },
		ReadFile: func(path string) ([]byte, error) {
			if v, ok := w[path]; ok {
				return []byte(v), nil
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
	}
}

func (w world) load(text string) (*config.Config, error) {
	files := world{"a.yaml": text}
	for k, v := range w {
		files[k] = v
	}
	return config.Load("a.yaml", config.Overrides{}, files.environment())
}
