package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// pairs are what a flag that may be given several times has gathered.
type pairs []string

func (p *pairs) String() string { return strings.Join(*p, ",") }

func (p *pairs) Set(text string) error {
	if name, _, ok := strings.Cut(text, "="); !ok || name == "" {
		return fmt.Errorf("write NAME=VALUE")
	}
	*p = append(*p, text)
	return nil
}

const explainTime = 10 * time.Second // the registry may have to be asked first

func explainCommand(args []string, out, errs io.Writer) int {
	f := flagSet("explain", errs)
	where := placeFlags(f)
	var port *int
	portFlag(f, "admin-port", "admin port of the sidecar on this machine", &port)
	var headers pairs
	service := f.String("service", "", "the service that is called: NAME or NAMESPACE/NAME")
	protocol := f.String("protocol", "grpc", "what it is called by: grpc, http, bolt, dubbo, tcp")
	method := f.String("method", "", "the method that is called")
	source := f.String("source", "", "who calls: APP or NAMESPACE/APP; unset: the sidecar's application")
	f.Var(&headers, "header", "a header of the call, NAME=VALUE; may be given several times")
	format := outputFlag(f, "json")
	if code, ends := parse(f, args, 0); ends {
		return code
	}
	if *service == "" {
		fmt.Fprintln(errs, "outrigger explain: give the service with -service")
		return exitStart
	}
	ctx, cancel := context.WithTimeout(context.Background(), explainTime)
	defer cancel()
	at, err := findAdmin(ctx, where, port)
	var x mesh.Explanation
	if err == nil {
		err = at.explain(ctx, url.Values{"service": {*service}, "protocol": {*protocol}, "method": {*method}, "source": {*source}, "header": headers}, &x)
	}
	if err != nil {
		fmt.Fprintln(errs, "outrigger explain:", err)
		return exitStart
	}
	if *format == "json" {
		printJSON(out, x)
	} else {
		printExplanation(out, x)
	}
	if x.Refused != "" {
		return exitFaults
	}
	return exitOK
}

func (a adminAt) explain(ctx context.Context, query url.Values, x *mesh.Explanation) error {
	h := a.client()
	defer h.CloseIdleConnections()
	code, text, err := get(ctx, h, "/explain?"+query.Encode())
	if err != nil {
		return fmt.Errorf("no sidecar answers on %s: %w", a.address, err)
	}
	if code != http.StatusOK {
		return fmt.Errorf("%s", strings.TrimSpace(string(text)))
	}
	return json.Unmarshal(text, x)
}

func printExplanation(out io.Writer, x mesh.Explanation) {
	fmt.Fprintf(out, "%s: ruled by %s", x.Service, x.Rule)
	if len(x.PassedBy) > 0 {
		fmt.Fprintf(out, " (%s: no match)", strings.Join(x.PassedBy, ", "))
	}
	if x.Policies.Source != "" {
		fmt.Fprintf(out, "\npolicies from %s, version %s", x.Policies.Source, x.Policies.Version)
	}
	if x.Refused != "" {
		fmt.Fprintf(out, "\na call fails: %s", x.Refused)
	}
	fmt.Fprintf(out, "\ntimeout %s, for each attempt %s (0s: none); attempts %d, repeated though handled: %v, repetitions left %g\n",
		x.Timeout, x.PerTry, x.Attempts, x.Repeats, x.Budget)
	fmt.Fprintf(out, "balance %s; calls under way %d; limit for the service %d, for an instance %d (0: none)\n", x.Balance, x.Active, x.Breaker.Service, x.Breaker.Instance)
	if x.Migration != "" {
		fmt.Fprintf(out, "migration: %s\n", x.Migration)
	}
	if x.Error != "" {
		fmt.Fprintf(out, "registry: %s (what is known is from the disk: %v)\n", x.Error, x.Stale)
	}
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, s := range x.Shares {
		fmt.Fprintf(t, "share %s\tweight %d\tinstances %d\n", s.Labels, s.Weight, s.Instances)
	}
	for _, i := range x.Instances {
		mark := "-"
		if i.Taken {
			mark = "+"
		}
		kind := "sidecar"
		if i.Direct {
			kind = "application"
		}
		fmt.Fprintf(t, "%s %s\t%s\tweight %d\tactive %d\t%s\n", mark, i.Address, kind, i.Weight, i.Active, i.Why)
	}
	t.Flush()
}
