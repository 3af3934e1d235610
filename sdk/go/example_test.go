package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// sidecar starts one that lives in this process, with an application "stock" behind it, so that the examples need nothing else.
func sidecar() (client.Option, func()) {
	f, err := newWorld().listen("127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return client.WithAddress(f.target), f.stop
}

func connected() (context.Context, *client.Client, func()) {
	option, stop := sidecar()
	c, err := client.Dial(context.Background(), option)
	if err != nil {
		log.Fatal(err)
	}
	return context.Background(), c, func() { c.Close(); stop() }
}

func Example() {
	atSidecar, stop := sidecar()
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, atSidecar) // without options it finds the sidecar by itself
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	sessions := c.Cache("sessions")
	if _, err := sessions.Set(ctx, "user-7", client.Item{Value: []byte("in"), TTL: time.Hour}); err != nil {
		log.Fatal(err)
	}
	item, err := sessions.Get(ctx, "user-7")
	fmt.Printf("%s, %v left, error %v\n", item.Value, item.TTL, err)
	// Output: in, 1h0m0s left, error <nil>
}

func ExampleDial_fallback() {
	nobody, err := freeAddress()
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.Dial(context.Background(), client.WithAddress(nobody))
	switch {
	case errors.Is(err, client.ErrNoSidecar):
		fmt.Println("going on without a sidecar") // err says what was tried
	case err != nil:
		log.Fatal(err)
	default:
		defer c.Close()
	}
	// Output: going on without a sidecar
}

func ExampleWithDirect() {
	atSidecar, stop := sidecar()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.WithDirect("stock=10.0.0.5:8080,10.0.0.6:8080 prices=dns:///prices:8080"), atSidecar)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	stock := c.Conn("stock") // through the sidecar while there is one, else directly
	var answer wrapperspb.StringValue
	err = stock.Invoke(ctx, "/shop.Stock/Left", wrapperspb.String("pens"), &answer)
	fmt.Println(answer.GetValue(), err)
	// Output: 7 of pens <nil>
}

func ExampleWithWait() {
	atSidecar, stop := sidecar()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.WithWait(), atSidecar) // whoever starts first
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Close())
	// Output: <nil>
}

func ExampleFind() {
	atSidecar, stop := sidecar()
	defer stop()
	tried, err := client.Find(context.Background(), client.WithSocket("/nowhere.sock"), atSidecar)
	if err != nil {
		log.Fatal(err)
	}
	for _, candidate := range tried {
		fmt.Println(candidate.Source+":", candidate.Err)
	}
	// Output:
	// socket given: no such file or directory
	// address given: <nil>
}

func ExampleCache_Set() {
	ctx, c, stop := connected()
	defer stop()
	carts := c.Cache("carts")

	version, err := carts.Set(ctx, "cart", client.Item{Value: []byte("a pen")}, client.IfAbsent())
	fmt.Println("created:", err)
	_, err = carts.Set(ctx, "cart", client.Item{Value: []byte("two pens")}, client.IfVersion(version))
	fmt.Println("changed:", err)
	_, err = carts.Set(ctx, "cart", client.Item{Value: []byte("no pen")}, client.IfVersion(version))
	fmt.Println("changed in between:", errors.Is(err, client.ErrVersionMismatch))
	// Output:
	// created: <nil>
	// changed: <nil>
	// changed in between: true
}

func ExampleCache_GetMany() {
	ctx, c, stop := connected()
	defer stop()
	prices := c.Cache("prices")
	if _, err := prices.SetMany(ctx, client.Entry{Key: "pen", Item: client.Item{Value: []byte("3")}}); err != nil {
		log.Fatal(err)
	}
	results, err := prices.GetMany(ctx, "pen", "anvil")
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range results {
		fmt.Println(r.Key, string(r.Item.Value), errors.Is(r.Err, client.ErrNotFound))
	}
	// Output:
	// pen 3 false
	// anvil  true
}

func ExampleConfig_Watch() {
	ctx, c, stop := connected()
	defer stop()
	config := c.Config("default")
	if _, err := config.Set(ctx, client.ConfigItem{Key: "limit", Value: []byte("10")}); err != nil {
		log.Fatal(err)
	}
	for change, err := range config.Watch(ctx, "limit") { // goes on over restarts of the sidecar
		if err != nil {
			log.Fatal(err)
		}
		if change.Deleted {
			fmt.Println("no limit")
			break
		}
		fmt.Printf("limit %s\n", change.Item.Value)
		if err := config.Delete(ctx, "limit"); err != nil { // somebody changes it
			log.Fatal(err)
		}
	}
	// Output:
	// limit 10
	// no limit
}

func ExampleConfig_List() {
	ctx, c, stop := connected()
	defer stop()
	config := c.Config("default")
	for _, key := range []string{"shop/vat", "shop/name", "limit"} {
		if _, err := config.Set(ctx, client.ConfigItem{Key: key}); err != nil {
			log.Fatal(err)
		}
	}
	for item, err := range config.List(ctx, "shop/") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(item.Key)
	}
	// Output:
	// shop/name
	// shop/vat
}

func ExampleClient_Secret() {
	ctx, c, stop := connected()
	defer stop()
	password, err := c.Secret("vault").Get(ctx, "db")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(password, len(password.Reveal()))
	// Output: *** 7
}

func ExampleClient_Invoke() {
	ctx, c, stop := connected()
	defer stop()
	answer, err := c.Invoke(ctx, "stock", "left?of=pens", nil, client.Verb("GET"), client.Idempotent())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d %s\n", answer.HTTPStatus, answer.Data)
	// Output: 200 GET stock/left?of=pens
}

func ExampleClient_Conn() {
	ctx, c, stop := connected()
	defer stop()
	// A generated stub is made as always: pb.NewStockClient(c.Conn("stock")). Without one:
	var answer wrapperspb.StringValue
	if err := c.Conn("stock").Invoke(ctx, "/shop.Stock/Left", wrapperspb.String("pens"), &answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.GetValue())
	// Output: 7 of pens
}

func ExampleRegistry() {
	ctx, c, stop := connected()
	defer stop()
	stock := client.Service{Name: "stock", Version: "1"}
	if _, err := c.Registry().Publish(ctx, client.Publication{Service: stock, Port: 8080}); err != nil {
		log.Fatal(err)
	}
	found, err := c.Registry().Resolve(ctx, stock)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Address, len(found.Instances))
	// Output: 127.0.0.1:7090 2
}

func ExampleReason() {
	ctx, c, stop := connected()
	defer stop()
	_, err := c.Invoke(ctx, "stock", "fail", nil)
	after, _ := client.RetryAfter(err)
	fmt.Println(err)
	fmt.Println(errors.Is(err, client.ErrExhausted), client.Reason(err), after, client.Origin(err))
	// Output:
	// stock has enough to do (OVERLOADED)
	// true OVERLOADED 2s peer
}

func ExamplePropagateHTTP() {
	ctx, c, stop := connected()
	defer stop()
	handler := func(w http.ResponseWriter, r *http.Request) {
		// This call belongs to the trace of r.
		there, err := c.Cache("sessions").Exists(r.Context(), "user-7")
		fmt.Fprintln(w, there, err)
	}
	server := client.PropagateHTTP(http.HandlerFunc(handler))

	answer := httptest.NewRecorder()
	server.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/session", nil))
	fmt.Print(answer.Body)
	// Output: false <nil>
}
