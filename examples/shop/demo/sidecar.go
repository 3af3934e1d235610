package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// sidecar is one that can be started again.
type sidecar struct {
	*process // the one that runs
	shop     *shop
	title    string
	config   string // file in the shop's folder
	app      string
	args     []string
	socket   string
	ports    map[string]string // HOST:PORT by door, as it printed them
}

// newSidecar is not started. Every port is 0: each door gets one that is free.
func (s *shop) newSidecar(title, app string, args ...string) *sidecar {
	return &sidecar{shop: s, title: title + " sidecar", config: title + ".yaml", app: app, socket: s.socket(title),
		args: append([]string{"-grpc-port=0", "-http-port=0", "-admin-port=0", "-inbound-port=0", "-outbound-port=0"}, args...)}
}

var doors = regexp.MustCompile(`(grpc|http|outbound|inbound|admin) (127\.0\.0\.1:\d+)`)

// start runs it and waits until it says where its doors are.
func (c *sidecar) start(ctx context.Context) (err error) {
	args := append([]string{"run", "-config", c.shop.path(c.config), "-data-dir", c.shop.path(dataDir)}, c.args...)
	if c.process, err = c.shop.run(c.title, nil, "outrigger", args...); err != nil {
		return err
	}
	line, err := c.line(ctx, " is ready: ")
	if err != nil {
		return err
	}
	c.ports = map[string]string{}
	for _, door := range doors.FindAllStringSubmatch(line, -1) {
		c.ports[door[1]] = door[2]
	}
	return nil
}

// stop is an orderly end.
func (c *sidecar) stop(ctx context.Context) { c.process.stop(ctx, 20*time.Second) }

func (c *sidecar) restart(ctx context.Context) error {
	c.stop(ctx)
	return c.start(ctx)
}

// get reads a page of its admin door.
func (c *sidecar) get(ctx context.Context, page string) (status int, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.ports["admin"]+page, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, strings.TrimSpace(string(body)), err
}

// ready waits until its readiness is what is wanted, and answers what it said.
func (c *sidecar) ready(ctx context.Context, want int) (string, error) {
	for {
		status, text, err := c.get(ctx, "/readyz")
		if err == nil && status == want {
			return text, nil
		}
		if e := pause(ctx); e != nil {
			if err == nil {
				err = fmt.Errorf("it says %d, %s", status, text)
			}
			return "", fmt.Errorf("%s: %w", c.title, err)
		}
	}
}

// generation is which version of its configuration it runs on, and why it does not run on the newest.
func (c *sidecar) generation(ctx context.Context) (n int, lastError string, err error) {
	_, text, err := c.get(ctx, "/info")
	if err != nil {
		return 0, "", err
	}
	var info struct {
		Config struct {
			Generation int    `json:"generation"`
			LastError  string `json:"last_error"`
		} `json:"config"`
	}
	err = json.Unmarshal([]byte(text), &info)
	return info.Config.Generation, info.Config.LastError, err
}

// calls is how many calls have come in for its application, by its metrics.
func (c *sidecar) calls(ctx context.Context) (sum int, err error) {
	_, text, err := c.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "outrigger_mesh_request_seconds_count{") && strings.Contains(line, `direction="inbound"`) {
			n, err := strconv.Atoi(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]))
			if err != nil {
				return 0, fmt.Errorf("metrics: %q: %w", line, err)
			}
			sum += n
		}
	}
	return sum, nil
}
