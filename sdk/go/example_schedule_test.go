package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func ExampleSchedule_Create() {
	ctx, c, stop := connected()
	defer stop()

	// The same job again is no error: create it whenever the application starts.
	_, err := c.Schedule("default").Create(ctx, client.Job{
		Name:    "nightly-report",
		Trigger: client.Cron("30 2 * * MON-FRI", "Europe/Berlin"),
		Data:    []byte("all shops"),
	})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleSchedule_Handle() {
	ctx, c, stop := connected()
	defer stop()
	jobs := c.Schedule("default")
	if _, err := jobs.Create(ctx, client.Job{Name: "remind-7", Trigger: client.At(time.Now()), Data: []byte("order 7")}); err != nil {
		log.Fatal(err)
	}

	ctx, done := context.WithCancel(ctx)
	err := jobs.Handle(ctx, client.HandleOptions{}, func(ctx context.Context, f client.Firing) error {
		fmt.Printf("%s: %s\n", f.Name, f.Data)
		done() // an application goes on until it ends
		return nil
	})
	fmt.Println(err)
	// Output:
	// remind-7: order 7
	// context canceled
}
