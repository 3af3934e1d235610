// Package postgresconn is what the drivers on PostgreSQL share: how it is reached, a few connections on which many callers' statements
// go one behind the other without waiting for each other's answers, the tables, and what the server's errors mean.
package postgresconn

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// Options say where a PostgreSQL is and how it is used.
type Options struct {
	Addresses      []string          `yaml:"addresses" doc:"HOST:PORT of the servers of one cluster; the first that can be written to is used, another after a fail-over"`
	Database       string            `yaml:"database" doc:"the database, in UTF8"`
	Schema         string            `yaml:"schema" doc:"where the tables are; made if it is not there and the user may make it"`
	User           string            `yaml:"user" doc:"the user"`
	Password       components.Secret `yaml:"password" doc:"its password; without TLS it is shown to no server that wants it in the clear"`
	TLS            backend.TLS       `yaml:"tls"`
	Connections    int               `yaml:"connections" doc:"how many connections the components of a sidecar with the same options share"`
	ConnectTimeout time.Duration     `yaml:"connect_timeout" doc:"how long one server may take to accept a connection"`
	Timeout        time.Duration     `yaml:"timeout" doc:"how long a statement may take at the server, waits for others included"`
	AllowLoss      bool              `yaml:"allow_loss" doc:"use a server that may forget what it acknowledged: with fsync or synchronous_commit off"`
}

// Defaults are those of all drivers.
func Defaults() Options {
	return Options{Addresses: []string{"127.0.0.1:5432"}, User: "outrigger", Database: "postgres", Schema: "outrigger", Connections: 4, ConnectTimeout: 3 * time.Second, Timeout: 5 * time.Second}
}

// schemas are those that need no quotes, and whose names leave room for what channels add to them.
var schemas = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,49}$`)

// Validate names all faults.
func (o Options) Validate() error {
	faults := []error{backend.CheckAddresses("addresses", o.Addresses), o.TLS.Validate()}
	for _, one := range o.Addresses {
		if _, _, err := hostPort(one); err != nil {
			faults = append(faults, fmt.Errorf("addresses: %q: %w", one, err))
		}
	}
	if o.User == "" || o.Database == "" {
		faults = append(faults, errors.New("user, database: both are needed"))
	}
	if !schemas.MatchString(o.Schema) || strings.HasPrefix(o.Schema, "pg_") {
		faults = append(faults, fmt.Errorf("schema: %q is not up to 50 of a-z, 0-9 and _ without pg_ in front", o.Schema))
	}
	if o.Connections < 1 || o.Connections > 64 {
		faults = append(faults, fmt.Errorf("connections: %d is not from 1 to 64", o.Connections))
	}
	for name, d := range map[string]time.Duration{"connect_timeout": o.ConnectTimeout, "timeout": o.Timeout} {
		if d < 10*time.Millisecond || d > time.Hour {
			faults = append(faults, fmt.Errorf("%s: %s is not from 10ms to 1h", name, d))
		}
	}
	return errors.Join(faults...)
}

func hostPort(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || strings.HasPrefix(host, "/") {
		return "", 0, errors.New("no host and number of a port")
	}
	return host, uint16(n), nil
}

// Where names the servers in errors.
func (o Options) where() string { return "postgres " + strings.Join(o.Addresses, ",") }

// key is the same for equal options only, and shows no password.
func (o Options) key() any {
	secret := sha256.Sum256([]byte(o.Password.Reveal()))
	return struct{ kind, options string }{"postgres", fmt.Sprintf("%+v %x", o, secret)}
}

// config is what the library dials with. Neither the environment nor a file in the home folder has a say in it.
func (o Options) config() (*pgconn.Config, error) {
	secure, err := o.TLS.Config()
	if err != nil {
		return nil, err
	}
	// What is given here is not looked for elsewhere; it has no secret, and cannot: its errors show it.
	c, err := pgconn.ParseConfig("host=localhost port=5432 user=x dbname=x password=x sslmode=disable target_session_attrs=any")
	if err != nil {
		return nil, err
	}
	c.User, c.Database, c.Password, c.ConnectTimeout = o.User, o.Database, o.Password.Reveal(), o.ConnectTimeout
	c.Fallbacks = nil
	for i, address := range o.Addresses {
		host, port, err := hostPort(address)
		if err != nil {
			return nil, err
		}
		one := &pgconn.FallbackConfig{Host: host, Port: port}
		if secure != nil {
			if one.TLSConfig = secure.Clone(); one.TLSConfig.ServerName == "" {
				one.TLSConfig.ServerName = host
			}
		}
		if i == 0 {
			c.Host, c.Port, c.TLSConfig = one.Host, one.Port, one.TLSConfig
		} else {
			c.Fallbacks = append(c.Fallbacks, one)
		}
	}
	if secure == nil {
		c.RequireAuth = "!password"
	}
	c.RuntimeParams = map[string]string{
		"application_name": "outrigger " + o.Schema, "search_path": o.Schema, "client_encoding": "UTF8",
		"statement_timeout": milliseconds(o.Timeout), "lock_timeout": "0", "default_transaction_isolation": "read committed",
		"idle_in_transaction_session_timeout": milliseconds(o.Timeout),
	}
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if ctx.Value(ours{}) == nil { // the library would ask for a statement to be cancelled; the server's own limit does that
			return nil, errors.New("not dialled")
		}
		return dial(ctx, network, address)
	}
	c.ValidateConnect = o.check
	return c, nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(int64(math.Ceil(float64(d)/float64(time.Millisecond))), 10)
}
