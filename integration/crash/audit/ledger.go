package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ledger is what the services have.
type ledger struct {
	balances map[string]int            // by account
	moved    map[string]int            // by account: the sum of what was noted
	notes    map[string]map[string]int // by gid: how often "[BRANCH OP] ACCOUNT AMOUNT" was noted
}

func newLedger() *ledger {
	return &ledger{balances: map[string]int{}, moved: map[string]int{}, notes: map[string]map[string]int{}}
}

// ledgers reads those of all services.
func (r *run) ledgers() (*ledger, error) {
	all := newLedger()
	for _, addr := range r.Participants {
		var one *ledger
		if err := eventually(func() (err error) { one, err = read(addr); return err }); err != nil {
			return nil, fmt.Errorf("the ledger at %s: %w", addr, err)
		}
		maps.Copy(all.balances, one.balances)
		for account, n := range one.moved {
			all.moved[account] += n
		}
		for gid, notes := range one.notes {
			if all.notes[gid] == nil {
				all.notes[gid] = map[string]int{}
			}
			for what, n := range notes {
				all.notes[gid][what] += n
			}
		}
	}
	if len(all.balances) != r.Accounts {
		return nil, fmt.Errorf("%d accounts are there, of %d", len(all.balances), r.Accounts)
	}
	return all, nil
}

// read reads a service's accounts, account/NUMBER with what is in it, and notes, note/GID/BRANCH OP/ACCOUNT/AMOUNT/TIME.
func read(addr string) (*ledger, error) {
	l := newLedger()
	for page := ""; ; {
		var out struct {
			Entries []struct {
				Key  string
				Item struct{ Value []byte } // base64, as JSON has it
			}
			NextPageToken string
		}
		if err := post(addr, "state.v1.State/List", map[string]any{"values": true, "pageToken": page}, &out); err != nil {
			return nil, err
		}
		for _, e := range out.Entries {
			words := strings.Split(e.Key, "/")
			switch {
			case words[0] == "account" && len(words) == 2:
				n, err := strconv.Atoi(string(e.Item.Value))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", e.Key, err)
				}
				l.balances[number(words[1])] = n
			case words[0] == "note" && len(words) == 6:
				n, err := strconv.Atoi(words[4])
				if err != nil {
					return nil, fmt.Errorf("%s: %w", e.Key, err)
				}
				if l.notes[words[1]] == nil {
					l.notes[words[1]] = map[string]int{}
				}
				l.moved[words[3]] += n
				l.notes[words[1]][strings.TrimLeft(words[2]+" "+words[3]+" "+words[4], " ")]++
			case words[0] != "sent": // whether a sender has done its work
				return nil, fmt.Errorf("%s is neither an account nor a note", e.Key)
			}
		}
		if page = out.NextPageToken; page == "" {
			return l, nil
		}
	}
}

func number(account string) string {
	if short := strings.TrimLeft(account, "0"); short != "" {
		return short
	}
	return "0"
}

// states reads how all transactions are, by gid.
func (r *run) states() (all map[string]string, err error) {
	next := 0
	err = eventually(func() error {
		all = map[string]string{}
		next++
		for page := ""; ; {
			var out struct {
				Transactions  []struct{ GID, State string }
				NextPageToken string
			}
			addr := r.Coordinators[next%len(r.Coordinators)]
			if err := post(addr, "transaction.v1.Transaction/List", map[string]any{"pageToken": page}, &out); err != nil {
				return fmt.Errorf("the transactions at %s: %w", addr, err)
			}
			for _, t := range out.Transactions {
				all[t.GID] = t.State
			}
			if page = out.NextPageToken; page == "" {
				return nil
			}
		}
	})
	return all, err
}

var client = http.Client{Timeout: 20 * time.Second}

func post(addr, method string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	res, err := client.Post("http://"+addr+"/outrigger."+method, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", method, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(out)
}
