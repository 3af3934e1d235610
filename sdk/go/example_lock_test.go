package client_test

import (
	"errors"
	"fmt"
	"log"
	"time"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func ExampleLock_Acquire() {
	ctx, c, stop := connected()
	defer stop()
	lock, err := c.Lock("default").Acquire(ctx, "nightly-report", 10*time.Second) // waits its turn
	if err != nil {
		log.Fatal(err)
	}
	defer lock.Unlock()

	ctx = lock.Context() // ends when the lock is lost
	// What is written carries the lock's token, so that it cannot undo what a later holder wrote.
	_, err = c.State("default").Set(ctx, "report", client.Item{Value: []byte("done")}, lock.Fence())
	fmt.Println(lock.Token(), err)
	// Output: 1 <nil>
}

func ExampleLock_TryLock() {
	ctx, c, stop := connected()
	defer stop()
	locks := c.Lock("default")
	got, err := locks.TryLock(ctx, client.LockRequest{Name: "door", Owner: "ann", Lease: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	_, err = locks.TryLock(ctx, client.LockRequest{Name: "door", Owner: "bob"})
	fmt.Println(errors.Is(err, client.ErrPrecondition), client.Reason(err))
	fmt.Println(locks.Unlock(ctx, "door", got.Token))
	// Output:
	// true LOCK_HELD
	// <nil>
}

func ExampleSequence_Next() {
	ctx, c, stop := connected()
	defer stop()
	orders, err := c.Sequence("default").Next(ctx, "orders", 3)
	if err != nil {
		log.Fatal(err)
	}
	for number := orders.First; number <= orders.Last; number++ {
		fmt.Println(number)
	}
	// Output:
	// 1
	// 2
	// 3
}
