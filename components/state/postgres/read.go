package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// What is read of an item, and which of them are there.
const (
	columns = "key, version, attributes, (extract(epoch from expires - clock_timestamp()) * 1e6)::bigint as life"
	live    = "(expires is null or expires > clock_timestamp())"
)

const (
	getSQL = "select " + columns + ", value from state_items where key = $1 and " + live

	// Values are sent only if all of them together may be.
	getManySQL = "select key, version, attributes, life, case when total <= $2 then value end, total > $2 from (select " + columns + `, value,
		sum(octet_length(value) + coalesce(octet_length(attributes), 0)) over () as total from state_items where key = any($1) and ` + live + ") found"

	// Of the rows of a page, and one more, those that come to so many bytes, but the first whatever it has.
	listSQL = `select key, version, attributes, life, value, rows from (
		select *, sum(coalesce(octet_length(value), 0) + coalesce(octet_length(attributes), 0) + octet_length(key)) over (order by key) as total,
			row_number() over (order by key) as row, count(*) over () as rows from (
			select ` + columns + `, case when $6 then value end as value from state_items
				where key >= $1 and key < $2 and key > $3 and ` + live + ` order by key limit $4 + 1) found) counted
		where row <= $4 and (row = 1 or total <= $5) order by key`
)

// row is what is read of an item.
type row struct {
	key, version string
	attributes   []byte
	life         *int64 // microseconds
	value        []byte
}

func (r *row) into(more ...any) []any {
	return append([]any{&r.key, &r.version, &r.attributes, &r.life, &r.value}, more...)
}

func (r *row) item() (item state.Item, err error) {
	item = state.Item{Value: r.value, Version: r.version}
	if r.life != nil {
		item.TTL = time.Duration(max(*r.life, 1)) * time.Microsecond
	}
	if r.attributes != nil {
		var a attributes
		if err = json.Unmarshal(r.attributes, &a); err != nil {
			return item, fmt.Errorf("%w: the attributes of %q: %w", components.ErrDamaged, r.key, err)
		}
		item.ContentType, item.Metadata = a.ContentType, a.Metadata
	}
	return item, nil
}

// attributes are what is stored of an item in one column.
type attributes struct {
	ContentType string            `json:"content_type,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

func attributesOf(i state.Item) ([]byte, error) {
	if i.ContentType == "" && len(i.Metadata) == 0 {
		return nil, nil
	}
	return json.Marshal(attributes{i.ContentType, i.Metadata})
}

func (d *driver) Get(ctx context.Context, key string) (state.Item, error) {
	var r row
	found := false
	err := d.Do(ctx, postgresconn.Statement{SQL: getSQL, Args: []any{d.name + key}, First: func() { r, found = row{}, false }, Row: func(rows pgx.Rows) error {
		found = true
		return rows.Scan(r.into()...)
	}})
	switch {
	case err != nil:
		return state.Item{}, err
	case !found:
		return state.Item{}, components.ErrNotFound
	}
	return r.item()
}

func (d *driver) GetMany(ctx context.Context, keys []string) ([]state.GetResult, error) {
	places := make(map[string][]int, len(keys))
	whole := make([]string, 0, len(keys))
	results := make([]state.GetResult, len(keys))
	for i, key := range keys {
		if key = d.name + key; places[key] == nil {
			whole = append(whole, key)
		}
		places[key] = append(places[key], i)
		results[i].Err = components.ErrNotFound
	}
	var found []row
	tooMuch := false
	err := d.Do(ctx, postgresconn.Statement{SQL: getManySQL, Args: []any{whole, state.ManyBytes}, First: func() { found, tooMuch = nil, false }, Row: func(rows pgx.Rows) error {
		var r row
		var over bool
		err := rows.Scan(r.into(&over)...)
		found, tooMuch = append(found, r), tooMuch || over
		return err
	}})
	switch {
	case err != nil:
		return nil, err
	case tooMuch:
		return nil, state.TooMuch()
	}
	for n := range found {
		for j, i := range places[found[n].key] {
			results[i].Item, results[i].Err = found[n].item()
			if j > 0 { // each belongs to the caller alone
				results[i].Item.Value = slices.Clone(results[i].Item.Value)
			}
		}
	}
	return results, nil
}

func (d *driver) List(ctx context.Context, prefix, after string, limit int, values bool) (entries []state.Entry, more bool, err error) {
	prefix = d.name + prefix
	if after != "" {
		after = d.name + after
	}
	var found []row
	var there int64
	args := []any{prefix, postgresconn.After(prefix), after, limit, state.PageBytes, values}
	err = d.Do(ctx, postgresconn.Statement{SQL: listSQL, Args: args, First: func() { found, there = nil, 0 }, Row: func(rows pgx.Rows) error {
		var r row
		err := rows.Scan(r.into(&there)...)
		found = append(found, r)
		return err
	}})
	if err != nil {
		return nil, false, err
	}
	for n := range found {
		item, err := found[n].item()
		if err != nil {
			return nil, false, err
		}
		entries = append(entries, state.Entry{Key: found[n].key[len(d.name):], Item: item})
	}
	return entries, there > int64(len(found)), nil
}
