package kafka

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"
	"github.com/fxamacker/cbor/v2"

	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// rebalanceTime is how long Kafka waits for members to join anew. Those that are not heard of are given up before.
const rebalanceTime = 30 * time.Second

// joined is the result of a join.
type joined struct {
	member     string // its own name, when it began
	name       string
	generation int32
	mine       []int32
	orders     orders
	partitions int32
	began      time.Time // when it was last known to be in the group
	err        error
}

// join begins to join anew. What is offered has been committed before.
func (g *group) join() error {
	for _, id := range g.asked {
		if p := g.Part(id); p != nil {
			p.Offer()
		}
	}
	if err := g.flush(); err != nil {
		return err
	}
	g.serial++
	untold, news := g.Untold()
	w := wish{Member: g.Member(), Weight: g.Weight(), Settled: slices.Collect(maps.Values(untold)), Move: g.move, Serial: g.serial, Owned: g.IDs()}
	for _, id := range w.Owned {
		if g.Part(id).Offered() {
			w.Offered = append(w.Offered, id)
		}
	}
	g.announced, g.weight = news, w.Weight
	g.joinBy = time.Time{}
	result := make(chan joined, 1)
	g.joining = result
	name := g.name
	go func() { result <- g.enlist(name, w) }()
	return nil
}

// enlist joins and learns what the member's part is. It may take as long as another member takes to join anew, and has a connection of
// its own for that: what comes after it on one would wait.
func (g *group) enlist(name string, w wish) (r joined) {
	r.member, r.name = w.Member, name
	config := g.d.conn.config()
	config.Net.ReadTimeout = rebalanceTime + g.d.opts.Timeout
	at, err := g.d.conn.client.Coordinator(g.id)
	if r.err = err; err != nil {
		return r
	}
	broker := sarama.NewBroker(at.Addr())
	if r.err = broker.Open(config); r.err != nil {
		return r
	}
	defer broker.Close()
	request := sarama.NewJoinGroupRequest(version)
	request.GroupId, request.MemberId, request.ProtocolType = g.id, name, "consumer"
	request.SessionTimeout = int32(g.d.opts.SessionTimeout.Milliseconds())
	request.RebalanceTimeout = int32(rebalanceTime.Milliseconds())
	r.err = request.AddGroupProtocolMetadata(protocol, &sarama.ConsumerGroupMemberMetadata{Topics: []string{g.topic}, UserData: pack(w)})
	if r.err != nil {
		return r
	}
	answer, err := broker.JoinGroup(request)
	if err == nil && answer.Err == sarama.ErrMemberIdRequired {
		request.MemberId, r.name = answer.MemberId, answer.MemberId
		answer, err = broker.JoinGroup(request)
	}
	if err == nil && answer.Err != sarama.ErrNoError {
		err = answer.Err
	}
	if err != nil {
		r.err = fmt.Errorf("join: %w", err)
		return r
	}
	r.name, r.generation = answer.MemberId, answer.GenerationId
	sync := &sarama.SyncGroupRequest{Version: 3, GroupId: g.id, MemberId: r.name, GenerationId: r.generation}
	if answer.LeaderId == answer.MemberId {
		if r.err = g.lead(answer, sync); r.err != nil {
			return r
		}
	}
	r.began = time.Now()
	r.err = r.sync(broker, sync)
	return r
}

func (r *joined) sync(broker *sarama.Broker, request *sarama.SyncGroupRequest) error {
	answer, err := broker.SyncGroup(request)
	if err == nil && answer.Err != sarama.ErrNoError {
		err = answer.Err
	}
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	mine, err := answer.GetMemberAssignment()
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if mine == nil {
		return errors.New("sync: there is no assignment")
	}
	if err := cbor.Unmarshal(mine.UserData, &r.orders); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	for _, all := range mine.Topics {
		r.mine = all
	}
	return nil
}

// lead decides, as the leader of the group, who has what.
func (g *group) lead(answer *sarama.JoinGroupResponse, sync *sarama.SyncGroupRequest) error {
	members, err := answer.GetMembers()
	if err != nil {
		return err
	}
	partitions, err := g.d.conn.client.Partitions(g.topic)
	if err != nil {
		return err
	}
	wishes := map[string]wish{}
	for name, m := range members {
		var w wish
		if err := cbor.Unmarshal(m.UserData, &w); err != nil {
			return fmt.Errorf("a member of the group says what is not understood: %w", err)
		}
		wishes[name] = w
	}
	plan := share(int32(len(partitions)), wishes)
	for name, o := range instruct(plan, wishes) {
		one := &sarama.ConsumerGroupMemberAssignment{Topics: map[string][]int32{g.topic: plan[name]}, UserData: pack(o)}
		if err := sync.AddGroupAssignmentMember(name, one); err != nil {
			return err
		}
	}
	return nil
}

// installed takes in what a join has come to.
func (g *group) installed(r joined) error {
	switch {
	case errors.Is(r.err, sarama.ErrUnknownMemberId), errors.Is(r.err, sarama.ErrIllegalGeneration), errors.Is(r.err, sarama.ErrFencedInstancedId):
		return errLost
	case errors.Is(r.err, sarama.ErrRebalanceInProgress), r.member != g.Member():
		g.name, g.generation, g.joinBy = r.name, r.generation, time.Now()
		return nil
	case r.err != nil:
		g.recoordinate()
		return r.err
	}
	g.name, g.generation, g.joinedAt, g.more = r.name, r.generation, time.Now(), r.orders.More
	if n, err := g.d.conn.client.Partitions(g.topic); err == nil {
		g.partitions = int32(len(n))
	}
	if r.orders.Move.Number > g.move.Number {
		g.move = r.orders.Move
	}
	missing := g.keepOnly(&r)
	if err := g.take(missing, &r.orders); err != nil {
		g.joinBy = time.Now().Add(g.backoff.Next())
		return err
	}
	g.backoff.Reset()
	g.failing = 0
	return g.flush()
}

// keepOnly gives up what others have now, and answers what is to be taken over.
func (g *group) keepOnly(r *joined) (missing []int32) {
	g.others = len(r.orders.Members) > 1
	g.asked = r.orders.Offer
	for _, id := range g.IDs() {
		p := g.Part(id)
		switch {
		case !slices.Contains(r.mine, id):
			g.Drop(p)
		case p.Moved() < r.orders.Move.Number:
			g.Void(p)
		default:
			p.Keep()
			if slices.Contains(g.asked, id) {
				g.joinBy = time.Now()
			}
		}
	}
	g.Lease(r.began.Add(g.d.opts.SessionTimeout))
	for _, id := range r.mine {
		if g.Part(id) == nil {
			missing = append(missing, id)
		}
	}
	return missing
}

// take takes partitions over, and goes on with all.
func (g *group) take(missing []int32, o *orders) error {
	var states map[int32]*parts.Progress
	if len(missing) > 0 {
		var err error
		if states, err = g.begin(missing, o.Move); err != nil {
			return err
		}
		if g.consumer == nil {
			if g.consumer, err = g.d.conn.newConsumer(); err != nil {
				return err
			}
		}
	}
	members := map[string]bool{}
	for _, m := range o.Members {
		members[m] = m != g.Member()
	}
	for _, id := range missing {
		g.Take(id, states[id])
	}
	for _, s := range o.Settled {
		g.Tell(s)
	}
	g.Release(members)
	for _, id := range missing {
		g.read(g.Part(id))
	}
	g.Dispatch()
	return nil
}
