package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// settings is what is changed while everything runs.
var settings = scene{"Settings change while the shop is open", []check{
	{"config-live", "a file is changed to 10 % off: the next customers pay less", configLive, func(_ context.Context, s *shop) error {
		s.discountFile = "settings/bakery/discount" // another namespace's
		return nil
	}},
	{"bad-config-refused", "the till's configuration gets a typing error: it is told where, and all goes on as before", badConfig, func(ctx context.Context, s *shop) error {
		text, err := os.ReadFile(s.path("till.yaml"))
		if err == nil {
			err = s.write("copy.yaml", string(text))
		}
		s.till.config = "copy.yaml" // nobody reads the file that is changed
		return errors.Join(err, s.till.restart(ctx))
	}},
	{"config-reloaded", "it is put right, with one component more: that is there at once", configReloaded, func(_ context.Context, s *shop) error {
		return s.edit("till.yaml", "app: {id: till", "app: {id: other") // needs a restart, so that it is refused
	}},
	{"command-line", "outrigger call and outrigger status, as an operator uses them", commandLine, func(ctx context.Context, s *shop) error {
		s.till.stop(ctx)
		return nil
	}},
}}

// discount sets it and waits until customers get it.
func (s *shop) discount(ctx context.Context, percent int32) error {
	if err := s.announce(ctx, percent); err != nil {
		return err
	}
	_, err := s.discounted(ctx, percent)
	return err
}

// announce sets the discount: in a file, or from the till where settings are elsewhere.
func (s *shop) announce(ctx context.Context, percent int32) error {
	if s.on.of["config"] == "" {
		return s.write(s.discountFile, fmt.Sprintln(percent))
	}
	_, err := s.customer.Config("settings").Set(ctx, client.ConfigItem{Key: "discount", Value: fmt.Append(nil, percent)})
	return err
}

// discounted buys until the discount is what is wanted, and answers the last one seen.
func (s *shop) discounted(ctx context.Context, want int32) (seen int32, err error) {
	for {
		o, err := s.buy(ctx, "apple", 1)
		if err != nil {
			return seen, err
		}
		if seen = o.GetDiscount(); seen == want {
			return seen, nil
		}
		if err := pause(ctx); err != nil {
			return seen, err
		}
	}
}

func configLive(ctx context.Context, s *shop) (expected, seen string, err error) {
	before, err := s.buy(ctx, "apple", 10)
	if err != nil {
		return "900 cents before", "", err
	}
	if err := s.discount(ctx, 10); err != nil {
		return "10 % off", "", err
	}
	after, err := s.buy(ctx, "apple", 10)
	return "900 cents before, 810 cents after", fmt.Sprintf("%d cents before, %d cents after", before.GetCents(), after.GetCents()), err
}

func badConfig(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = fmt.Sprintf("%s:4:21: cache \"baskets\": unknown driver \"memry\" (did you mean \"memory\"?); still generation 1, and a basket can be kept", s.path("till.yaml"))
	if err := s.edit("till.yaml", "{driver: memory}", "{driver: memry}"); err != nil {
		return expected, "", err
	}
	for {
		n, lastError, err := s.till.generation(ctx)
		if err != nil {
			return expected, "", err
		}
		if lastError == "" && n == 1 {
			if err := pause(ctx); err != nil {
				return expected, "nothing happened", err
			}
			continue
		}
		_, err = s.customer.Cache("baskets").Set(ctx, "basket", basket)
		return expected, fmt.Sprintf("%s; still generation %d, and a basket can be kept", lastError, n), err
	}
}

func configReloaded(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "component wishes: no such component before, a wish is kept after"
	wishes := s.customer.Cache("wishes")
	_, err = wishes.Set(ctx, "wish", basket)
	seen = "component wishes: " + wishWhy(err) + " before, "
	if err := s.edit("till.yaml", "baskets: {driver: memry}", "baskets: {driver: memory}\n  wishes: {driver: memory}"); err != nil {
		return expected, seen, err
	}
	for {
		if _, err = wishes.Set(ctx, "wish", basket); err == nil {
			return expected, seen + "a wish is kept after", nil
		}
		if pause(ctx) != nil {
			return expected, seen + wishWhy(err) + " after", nil
		}
	}
}

// wishWhy tells whether there is a component for it.
func wishWhy(err error) string {
	if errors.Is(err, client.ErrNoComponent) {
		return "no such component"
	}
	return saysWhy(err)
}

func commandLine(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "apples and plums; till is ready"
	if _, err = s.customer.Cache("baskets").Set(ctx, "basket", basket); err != nil {
		return expected, "", err
	}
	text, err := s.outrigger(ctx, "call", "-socket", s.till.socket, "Cache/Get", `{"component": "baskets", "key": "basket"}`)
	if err != nil {
		return expected, text, err
	}
	seen = text
	if strings.Contains(text, basketBase64) {
		seen = string(basket.Value)
	}
	text, err = s.outrigger(ctx, "status", "-socket", s.till.socket)
	if strings.HasPrefix(text, "till: ready") {
		text = "till is ready"
	}
	return expected, seen + "; " + text, err
}

// outrigger runs a command and answers what it printed.
func (s *shop) outrigger(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "outrigger"), args...)
	cmd.Env = s.environment()
	text, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(text)), err
}
