package backends_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	pubsubpb "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
)

// kafkaSession is after what a sidecar that is not heard of has left its groups.
const kafkaSession = 3 * time.Second

func kafkaSidecars(t *testing.T, s *servers.Server, prefix string) (one, two *harness.Sidecar) {
	t.Helper()
	config := fmt.Sprintf(`
pubsub:
  default:
    driver: kafka
    options: {addresses: %s, session_timeout: %s, heartbeat: 200ms, partitions: 6, prefix: "%s"}
`, addresses(s.Addrs()), kafkaSession, prefix)
	return harness.Start(t, harness.Options{App: "one", Config: config}), harness.Start(t, harness.Options{App: "two", Config: config})
}

// Of three brokers one after the other is killed, or does not answer: what was acknowledged is delivered, in the order of its key.
func TestKafkaLosesABroker(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "kafka-cluster")
	one, two := kafkaSidecars(t, s, "")
	e := newEvents(t, "load")
	e.subscribe(one)
	e.subscribe(two)
	e.publish(one, 4)
	e.publish(two, 4)
	e.more(200)
	before := running(t, one, two)
	for i, n := range s.Nodes {
		what, lose, bring := "kill -9", n.Kill, func() error { return n.Start(t.Context()) }
		if i == 1 {
			what, lose, bring = fmt.Sprintf("frozen %s", frozen), n.Freeze, n.Thaw
		}
		began := time.Now()
		said := e.during(func() { check(t, lose()) })
		time.Sleep(frozen - time.Since(began))
		check(t, bring())
		e.more(200)
		fmt.Printf("kafka %s of one of 3: %s\n", what, said())
	}
	acked, repeated := e.finish()
	fmt.Printf("kafka: acked %d lost 0 | repeated %d | goroutines %+d\n", acked, repeated, settled(t, before, one, two))
}

// Sidecars come and go, are killed, and have handlers that take long.
func TestKafkaSidecars(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "kafka")
	for name, test := range map[string]func(t *testing.T, one, two *harness.Sidecar){
		"come-and-go": func(t *testing.T, one, two *harness.Sidecar) { comeAndGo(t, "kafka", one, two) },
		"killed":      func(t *testing.T, one, two *harness.Sidecar) { killedSidecar(t, "kafka", kafkaSession, one, two) },
		"frozen":      func(t *testing.T, one, two *harness.Sidecar) { frozenSidecar(t, "kafka", kafkaSession, one, two) },
		"slow":        slowHandler,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := kafkaSidecars(t, s, name+".")
			test(t, one, two)
		})
	}
}

// slowHandler takes longer than anything in the group may: it keeps its event, and the others go on meanwhile, also when another sidecar
// joins.
func slowHandler(t *testing.T, one, two *harness.Sidecar) {
	t.Helper()
	handling := frozen + kafkaSession
	c := consume(t, one)
	publish(t, two, "", "long")
	long := c.want("long", 1)
	other := consume(t, two)
	n := 0
	for begin := time.Now(); time.Since(begin) < handling; n++ {
		publish(t, two, "", fmt.Sprint(n))
		var d *pubsubpb.SubscribeResponse_Delivery
		by := c
		select {
		case d = <-c.came:
		case d = <-other.came:
			by = other
		case <-time.After(patience):
			t.Fatalf("after %d the others do not go on", n)
		}
		if string(d.GetEvent().GetData()) != fmt.Sprint(n) || d.GetAttempt() != 1 {
			t.Fatalf("came %q, attempt %d; want %d, attempt 1", d.GetEvent().GetData(), d.GetAttempt(), n)
		}
		by.ack(d)
	}
	c.ack(long)
	check(t, c.stream.CloseSend())
	other.nothing(2 * time.Second)
	fmt.Printf("kafka, a handler of %s (session_timeout %s): its event came once | %d others meanwhile\n", handling, kafkaSession, n)
}
