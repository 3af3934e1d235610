package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// check is one thing that the shop shows.
type check struct {
	name string
	what string // in plain words
	// run does it, and answers what was to be seen and what was. An error is something seen that was not expected.
	run func(ctx context.Context, s *shop) (expected, seen string, err error)
	// sabotage causes a fault just before run that makes it see something else: by what it does to the shop, never to the result.
	sabotage func(ctx context.Context, s *shop) error
}

// scene is checks that build on each other, in this order, and on the first scene only.
type scene struct {
	title  string
	checks []check
}

func scenes() []scene {
	return []scene{opening, selling, caching, settings, refusing, streaming, telling, restarting, spreading, stocktaking, outliving, closing}
}

// patience is how long a check waits for what it expects.
const (
	patience      = 30 * time.Second
	shortPatience = 5 * time.Second // where a fault was caused, so that what is expected will not come
)

// runner goes through checks and tells how they went.
type runner struct {
	out    io.Writer
	broken string // the check to sabotage
	total  int
	failed []string
}

// scene runs checks up to the one called last, or all.
func (r *runner) scene(ctx context.Context, s *shop, sc scene, last string) {
	fmt.Fprintf(r.out, "\n%s\n", sc.title)
	for _, c := range sc.checks {
		if ctx.Err() != nil {
			return
		}
		r.check(ctx, s, c)
		if c.name == last {
			return
		}
	}
}

func (r *runner) check(ctx context.Context, s *shop, c check) {
	limit := patience
	if r.broken != "" {
		limit = shortPatience
	}
	expected, seen := r.try(ctx, s, c, limit)
	if ctx.Err() != nil {
		return // it was not let finish
	}
	verdict := "ok    "
	r.total++
	if expected != seen {
		verdict = "FAILED"
		r.failed = append(r.failed, c.name)
	}
	fmt.Fprintf(r.out, "  %s  %-22s %s\n", verdict, c.name, c.what)
	fmt.Fprintf(r.out, "          expected: %s\n          seen:     %s\n", indent(expected), indent(seen))
	if s.besides != "" {
		fmt.Fprintf(r.out, "          besides:  %s\n", indent(s.besides))
		s.besides = ""
	}
}

func (r *runner) try(ctx context.Context, s *shop, c check, limit time.Duration) (expected, seen string) {
	if c.name == r.broken {
		with, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := c.sabotage(with, s); err != nil {
			fmt.Fprintf(r.out, "  the fault for %s could not be caused: %v\n", c.name, err) // so the check will pass
		}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer s.endMeanwhile()
	expected, seen, err := c.run(ctx, s)
	if err != nil {
		seen = strings.TrimPrefix(seen+"; it failed: "+err.Error(), "; ")
	}
	return expected, seen
}

func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n                    ") }
