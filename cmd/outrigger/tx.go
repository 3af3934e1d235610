package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// txActions are what can be done with an application's transactions, by the words that they take.
var txActions = map[string]int{"list": 0, "show": 1, "retry": 1, "abort": 1, "give-up": 1}

func txCommand(args []string, out, errs io.Writer) int {
	action := "list"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		action, args = args[0], args[1:]
	}
	words, known := txActions[action]
	if !known {
		fmt.Fprintf(errs, "outrigger tx: unknown action %q (have %s)\n", action, strings.Join(slices.Sorted(maps.Keys(txActions)), ", "))
		return exitStart
	}
	var gid string
	if words == 1 && len(args) > 0 && !strings.HasPrefix(args[0], "-") { // before the flags or after them
		gid, args, words = args[0], args[1:], 0
	}
	f := flagSet("tx "+action, errs)
	where := placeFlags(f)
	component := f.String("component", "", "the transaction component; default unless set")
	state := f.String("state", "", "list: only these states, such as RUNNING,ABORTING")
	older := f.Duration("older-than", 0, "list: only what began so long ago")
	format := outputFlag(f, "json")
	if code, ends := parse(f, args, words); ends {
		return code
	}
	if gid == "" {
		gid = f.Arg(0)
	}
	if txActions[action] == 1 && gid == "" {
		fmt.Fprintf(errs, "outrigger tx %s: which gid? outrigger tx list shows those there are\n", action)
		return exitStart
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	find, found := context.WithTimeout(ctx, findTime)
	defer found()
	c, err := client.Dial(find, where.options()...)
	if err != nil {
		fmt.Fprintln(errs, "outrigger tx:", err)
		return exitStart
	}
	defer c.Close()
	all, err := txAction(ctx, c.Transactions(*component), action, gid, *older, *state)
	if err != nil {
		printStatus(errs, err)
		return exitFaults
	}
	switch {
	case *format == "json" && action == "list":
		return printJSON(out, all)
	case *format == "json":
		return printJSON(out, all[0])
	case action == "list":
		printTransactions(out, all)
	default:
		printTransaction(out, all[0])
	}
	return exitOK
}

func txAction(ctx context.Context, t *client.Transactions, action, gid string, older time.Duration, states string) (all []client.TxStatus, err error) {
	do := map[string]func(context.Context, string) (client.TxStatus, error){"show": t.Get, "retry": t.Retry, "abort": t.Abort, "give-up": t.GiveUp}[action]
	if do != nil {
		one, err := do(ctx, gid)
		return []client.TxStatus{one}, err
	}
	var wanted []client.TxState
	for s := range strings.SplitSeq(states, ",") {
		if s = strings.ToUpper(strings.TrimSpace(s)); s != "" {
			wanted = append(wanted, client.TxState(s))
		}
	}
	all = []client.TxStatus{}
	for one, err := range t.List(ctx, older, wanted...) {
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func printTransactions(out io.Writer, all []client.TxStatus) {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "GID\tKIND\tSTATE\tBEGAN\tREASON")
	for _, s := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.GID, s.Kind, s.State, s.Began.Local().Format(time.DateTime), s.Reason)
	}
	t.Flush()
}

func printTransaction(out io.Writer, s client.TxStatus) {
	fmt.Fprintf(out, "%s: %s %s, began %s", s.GID, s.Kind, s.State, s.Began.Local().Format(time.DateTime))
	if !s.Ended.IsZero() {
		fmt.Fprintf(out, ", ended %s", s.Ended.Local().Format(time.DateTime))
	}
	if s.Reason != "" {
		fmt.Fprintf(out, "\nrolled back because %s", s.Reason)
	}
	fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, b := range s.Branches {
		how := "done"
		if !b.Done { // attempts are counted until one is OK
			how = fmt.Sprintf("open\tattempts %d", b.Attempts)
		}
		fmt.Fprintf(t, "%s\t%s\t%s", b.ID, b.Op, how)
		if b.Pause > 0 {
			fmt.Fprintf(t, ", the next in %s", b.Pause.Round(time.Millisecond))
		}
		if b.Last != "" {
			fmt.Fprintf(t, "\t%s", b.Last)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}
