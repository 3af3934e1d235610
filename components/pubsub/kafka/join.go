package kafka

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"
	"github.com/fxamacker/cbor/v2"
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
	g.mu.Lock()
	for _, p := range g.parts {
		p.offered = p.offered || p.asked
	}
	g.mu.Unlock()
	if err := g.flush(); err != nil {
		return err
	}
	g.mu.Lock()
	g.serial++
	w := wish{Member: g.member, Weight: g.withRoom(), Settled: slices.Collect(maps.Values(g.untold)), Move: g.move, Serial: g.serial}
	for _, p := range g.parts {
		w.Owned = append(w.Owned, p.id)
		if p.offered {
			w.Offered = append(w.Offered, p.id)
		}
	}
	if g.leaving {
		w.Weight = 0
	}
	g.announced, g.weight = g.news, w.Weight
	g.mu.Unlock()
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
	case errors.Is(r.err, sarama.ErrRebalanceInProgress), r.member != g.member:
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
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lease = r.began.Add(g.d.opts.SessionTimeout)
	g.others = len(r.orders.Members) > 1
	for _, p := range g.parts {
		switch {
		case !slices.Contains(r.mine, p.id):
			g.drop(p)
		case p.progress.moved < r.orders.Move.Number:
			p.void()
			delete(g.parts, p.id)
		default:
			p.offered = false
			clear(p.since)
			if p.asked = slices.Contains(r.orders.Offer, p.id); p.asked {
				g.joinBy = time.Now()
			}
		}
	}
	for _, id := range r.mine {
		if g.parts[id] == nil {
			missing = append(missing, id)
		}
	}
	g.reorder()
	return missing
}

// take takes partitions over, and goes on with all.
func (g *group) take(missing []int32, o *orders) error {
	var states map[int32]*progress
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
	g.mu.Lock()
	defer g.mu.Unlock()
	members := map[string]bool{}
	for _, m := range o.Members {
		members[m] = m != g.member
	}
	for _, id := range missing {
		p := newPart(g, id, states[id])
		p.dirty = true
		g.parts[id] = p
		g.regain(p)
	}
	for _, s := range o.Settled {
		if p := g.parts[s.Partition]; p != nil {
			p.tell(s)
		}
	}
	for _, p := range g.parts {
		p.release(members)
	}
	for _, id := range missing {
		g.read(g.parts[id])
	}
	g.reorder()
	g.dispatch()
	return nil
}

// regain takes back what this member had of a partition before, and has all the time. What it has settled meanwhile it knows best.
func (g *group) regain(p *part) {
	for offset, t := range maps.Clone(p.progress.open) {
		at := place{p.id, offset}
		if t.holder != g.member {
			continue
		}
		if it := g.away[at]; it != nil {
			delete(g.away, at)
			p.attach(it)
			continue
		}
		if s, ok := g.untold[at]; ok {
			p.tell(s)
			continue
		}
		t.holder = ""
		p.progress.open[offset] = t
	}
	maps.DeleteFunc(g.untold, func(at place, _ settled) bool { return at.partition == p.id })
}
