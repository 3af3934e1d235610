// Package shipping packs a parcel for each order that was placed. It has no server and no port: orders come as events, on a stream that it
// opens to its sidecar, and what it has done is in its state.
package shipping

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/outrigger-mesh/outrigger/examples/shop/orders"
	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// Parcels is the state component with a parcel for each order, under its ParcelKey, and the number of each customer's parcels.
const Parcels = "parcels"

// ParcelPrefix begins the keys of all parcels, and of nothing else.
const ParcelPrefix = "parcel/"

// Parcel is what an order was packed into.
type Parcel struct {
	Order    int64  `json:"order"`
	Customer string `json:"customer"`
	Nth      int    `json:"nth"` // of the customer's parcels, from 1
}

// ParcelKey is where the parcel of an order is.
func ParcelKey(order int64) string { return fmt.Sprintf("%s%d", ParcelPrefix, order) }

// TallyKey is where the number of a customer's parcels is.
func TallyKey(customer string) string { return "tally/" + customer }

// Pack packs what is ordered until ctx ends, and answers its error. Any number of processes may do so at once.
func Pack(ctx context.Context, sidecar *client.Client) error {
	o := office{sidecar.State(Parcels)}
	return sidecar.PubSub("news").Subscribe(ctx, orders.Placed, client.SubscribeOptions{Earliest: true}, o.handle)
}

type office struct{ parcels *client.State }

// handle packs once, however often the event comes: parcel and tally are written together, or neither is.
func (o office) handle(ctx context.Context, e client.Event) error {
	order := &shoppb.Order{}
	if err := protojson.Unmarshal(e.Data, order); err != nil {
		return client.Reject(fmt.Errorf("this is no order: %w", err))
	}
	tally, when, err := o.tally(ctx, order.GetCustomer())
	if err != nil {
		return err
	}
	parcel, err := json.Marshal(Parcel{Order: order.GetNumber(), Customer: order.GetCustomer(), Nth: tally + 1})
	if err != nil {
		return err
	}
	_, err = o.parcels.Transact(ctx, client.Transaction{Operations: []client.Operation{
		client.SetKey(ParcelKey(order.GetNumber()), client.Item{Value: parcel, ContentType: "application/json"}, client.IfAbsent()),
		client.SetKey(TallyKey(order.GetCustomer()), client.Item{Value: strconv.AppendInt(nil, int64(tally)+1, 10)}, when),
	}})
	if at, ok := client.FailedOperation(err); ok && at == 0 && errors.Is(err, client.ErrExists) {
		return nil // packed before
	}
	return err // that the tally has changed meanwhile, too: the event comes again
}

// tally answers the number of a customer's parcels, and on what condition it may be written.
func (o office) tally(ctx context.Context, customer string) (n int, when client.Condition, err error) {
	item, err := o.parcels.Get(ctx, TallyKey(customer))
	if errors.Is(err, client.ErrNotFound) {
		return 0, client.IfAbsent(), nil
	}
	if err != nil {
		return 0, nil, err
	}
	n, err = strconv.Atoi(string(item.Value))
	return n, client.IfVersion(item.Version), err
}
