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

func kafkaSidecars(t *testing.T, s *servers.Server) (one, two *harness.Sidecar) {
	t.Helper()
	config := fmt.Sprintf(`
pubsub:
  default:
    driver: kafka
    options: {addresses: %s, session_timeout: %s, heartbeat: 200ms, partitions: 6}
`, addresses(s.Addrs()), kafkaSession)
	return harness.Start(t, harness.Options{App: "one", Config: config}), harness.Start(t, harness.Options{App: "two", Config: config})
}

// Of three brokers one after the other is killed, or does not answer: what was acknowledged is delivered, in the order of its key.
func TestKafkaLosesABroker(t *testing.T) {
	s := servers.Run(t, "kafka-cluster")
	one, two := kafkaSidecars(t, s)
	e := newEvents(t, "load")
	e.subscribe(one)
	e.subscribe(two)
	e.publish(one, 4)
	e.publish(two, 4)
	e.more(500)
	before := running(t, one, two)
	for i, n := range s.Nodes {
		what, lose, bring := "kill -9", n.Kill, func() error { return n.Start(t.Context()) }
		if i == 1 {
			what, lose, bring = fmt.Sprintf("frozen %s", frozen), n.Freeze, n.Thaw
		}
		check(t, lose())
		said := e.during(func() {
			time.Sleep(frozen)
			check(t, bring())
		})
		e.more(500)
		fmt.Printf("kafka %s of one of 3: %s\n", what, said())
	}
	acked, repeated := e.finish()
	fmt.Printf("kafka: acked %d lost 0 | repeated %d | goroutines %+d\n", acked, repeated, settled(t, before, one, two))
}

// Sidecars come and go under load, in an orderly way: nothing is lost, and nothing but what was under way comes twice.
func TestKafkaSidecarsComeAndGo(t *testing.T) {
	one, two := kafkaSidecars(t, servers.Run(t, "kafka"))
	e := newEvents(t, "load")
	leave := e.subscribe(one)
	e.publish(one, 4)
	e.more(200)
	for range 3 {
		other := e.subscribe(two)
		e.more(200)
		leave()
		leave = e.subscribe(one)
		e.more(200)
		other()
		e.more(200)
	}
	acked, repeated := e.finish()
	fmt.Printf("kafka, sidecars come and go: acked %d lost 0 | repeated %d\n", acked, repeated)
	if repeated > 0 {
		t.Errorf("%d came more than once, and none was under way when its stream ended", repeated)
	}
}

func TestKafkaSidecarIsKilled(t *testing.T) {
	one, two := kafkaSidecars(t, servers.Run(t, "kafka"))
	killedSidecar(t, "kafka", kafkaSession, one, two)
}

// A handler takes longer than anything in the group may: it keeps its event, and the others go on meanwhile, also when another sidecar
// joins.
func TestKafkaHandlerTakesLong(t *testing.T) {
	one, two := kafkaSidecars(t, servers.Run(t, "kafka"))
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
