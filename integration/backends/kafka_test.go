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

func kafkaSidecars(t *testing.T, s *servers.Server, prefix string, session time.Duration) (one, two *harness.Sidecar) {
	t.Helper()
	config := fmt.Sprintf(`
pubsub:
  default:
    driver: kafka
    options: {addresses: %s, session_timeout: %s, heartbeat: 200ms, partitions: 6, prefix: "%s"}
`, addresses(s.Addrs()), session, prefix)
	return harness.Start(t, harness.Options{App: "one", Config: config}), harness.Start(t, harness.Options{App: "two", Config: config})
}

// Of three brokers one after the other is stopped, killed, or does not answer: what was acknowledged is delivered, in the order of its key.
func TestKafkaLosesABroker(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "kafka-cluster")
	one, two := kafkaSidecars(t, s, "", kafkaSession)
	node := func(i int) func() *servers.Node { return always(s.Nodes[i]) }
	eventFaults(t, "kafka of 3", one, two, (*load).outlives, stop(t, node(0)), kill(t, node(1)), freeze(node(2)))
}

// Sidecars come and go, are killed, and have handlers that take long.
func TestKafkaSidecars(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "kafka")
	for name, c := range map[string]struct {
		session time.Duration
		test    func(t *testing.T, one, two *harness.Sidecar)
	}{
		"come-and-go": {10 * kafkaSession, func(t *testing.T, one, two *harness.Sidecar) { comeAndGo(t, "kafka", one, two) }}, // nobody is given up, how busy the machine may be
		"killed":      {kafkaSession, func(t *testing.T, one, two *harness.Sidecar) { killedSidecar(t, "kafka", kafkaSession, one, two) }},
		"frozen":      {kafkaSession, func(t *testing.T, one, two *harness.Sidecar) { frozenSidecar(t, "kafka", kafkaSession, one, two) }},
		"slow":        {kafkaSession, func(t *testing.T, one, two *harness.Sidecar) { slowHandler(t, s, one, two) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := kafkaSidecars(t, s, name+".", c.session)
			c.test(t, one, two)
		})
	}
}

// slowHandler takes longer than anything in the group may: it keeps its event, and the others go on meanwhile, also when another sidecar
// joins. Once that one has its share of the partitions, they are not shared out anew.
func slowHandler(t *testing.T, s *servers.Server, one, two *harness.Sidecar) {
	t.Helper()
	handling := 2 * frozen // a minute in a soak
	c := consume(t, one)
	publish(t, two, "", "long")
	long := c.want("long", 1)
	other := consume(t, two)
	rebalances := func() int {
		n, err := s.KafkaRebalances("slow.")
		check(t, err)
		return n
	}
	n, shared := 0, 0
	for begin := time.Now(); time.Since(begin) < handling; n++ {
		publish(t, two, "", fmt.Sprint(n))
		var d *pubsubpb.SubscribeResponse_Delivery
		by := c
		select {
		case d = <-c.came:
		case d = <-other.came:
			if by = other; shared == 0 {
				shared = rebalances()
			}
		case <-time.After(patience):
			t.Fatalf("after %d the others do not go on", n)
		}
		if string(d.GetEvent().GetData()) != fmt.Sprint(n) || d.GetAttempt() != 1 {
			t.Fatalf("came %q, attempt %d; want %d, attempt 1", d.GetEvent().GetData(), d.GetAttempt(), n)
		}
		by.ack(d)
	}
	if now := rebalances(); shared == 0 || now != shared {
		t.Errorf("%d rebalances when both had their share, %d when the handler was done", shared, now)
	}
	c.ack(long)
	check(t, c.stream.CloseSend())
	other.nothing(2 * time.Second)
	fmt.Printf("kafka, a handler of %s (session_timeout %s): its event came once | %d others meanwhile, no rebalance after the %d when another sidecar came\n", handling, kafkaSession, n, shared)
}
