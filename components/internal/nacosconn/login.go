package nacosconn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

const (
	maxPage   = 256 << 20       // bytes of an answer over HTTP
	maxToken  = time.Hour       // a token is not used for longer, whatever the server says
	loginRest = 2 * time.Second // between two logins: a server that denies is not stormed

	// statusNone is in the error of net/http for what some servers, 2.3.1 for one, say to a wrong password: a status that there is not.
	statusNone = `malformed HTTP status code "0"`
)

// door is the HTTP interface: the login, and what gRPC does not have.
type door struct {
	options Options
	client  *http.Client

	busy  chan struct{} // held by who logs in
	mu    sync.Mutex
	token string
	since time.Time // of the token
	until time.Time // when it is renewed
}

func newDoor(o Options) (*door, error) {
	tls, err := o.TLS.Config()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: tls, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
	return &door{options: o, client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a password goes nowhere else
	}}, busy: make(chan struct{}, 1)}, nil
}

func (d *door) close() { d.client.CloseIdleConnections() }

// url of a path at a server.
func (d *door) url(address, path string) string {
	scheme := "http"
	if d.options.TLS.Enabled {
		scheme = "https"
	}
	return scheme + "://" + address + d.options.ContextPath + path
}

// fresh answers a token that is valid as far as is known, empty where there is no login.
func (d *door) fresh(ctx context.Context, address string) (string, error) {
	if d.options.User == "" {
		return "", nil
	}
	if token := d.present(time.Now()); token != "" {
		return token, nil
	}
	select {
	case d.busy <- struct{}{}:
		defer func() { <-d.busy }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if token := d.present(time.Now()); token != "" {
		return token, nil
	}
	return d.login(ctx, address)
}

func (d *door) present(now time.Time) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Before(d.until) {
		return d.token
	}
	return ""
}

// denied says that a token was of no use; whether another may be.
func (d *door) denied(token string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.options.User == "" || d.token == token && time.Since(d.since) < loginRest {
		return false
	}
	if d.token == token {
		d.token, d.until = "", time.Time{}
	}
	return true
}

func (d *door) login(ctx context.Context, address string) (string, error) {
	form := url.Values{"username": {d.options.User}, "password": {d.options.Password.Reveal()}}
	in, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url(address, "/v1/auth/users/login"), strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	in.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	out := struct {
		AccessToken string `json:"accessToken"`
		TokenTTL    int64  `json:"tokenTtl"` // in seconds
	}{}
	if err := d.do(ctx, in, address, "the login of "+d.options.User, &out); err != nil {
		return "", err
	}
	if out.AccessToken == "" {
		return "", backend.Unreachable(ctx, "nacos "+address, fmt.Errorf("the login of %s gives no token", d.options.User))
	}
	life := min(time.Duration(min(max(out.TokenTTL, 1), int64(maxToken/time.Second)))*time.Second, maxToken)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.token, d.since, d.until = out.AccessToken, time.Now(), time.Now().Add(life-life/5)
	return d.token, nil
}

// do asks, and reads the answer as JSON into out.
func (d *door) do(ctx context.Context, in *http.Request, address, what string, out any) error {
	answer, err := d.client.Do(in)
	if err != nil && strings.Contains(err.Error(), statusNone) {
		return backend.Refused("nacos "+address, errors.New(what+": the server answers with HTTP status 0, as it does who gives a wrong password"))
	}
	if err != nil {
		return backend.Unreachable(ctx, "nacos "+address, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
		told := fmt.Errorf("%s: HTTP status %d: %s", what, answer.StatusCode, strings.TrimSpace(string(text)))
		if answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusUnauthorized {
			return backend.Refused("nacos "+address, told)
		}
		return backend.Unreachable(ctx, "nacos "+address, told)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxPage)).Decode(out); err != nil {
		return backend.Unreachable(ctx, "nacos "+address, fmt.Errorf("%s: %w", what, err))
	}
	return nil
}
