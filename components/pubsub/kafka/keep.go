package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// ask one of the coordinator. An answer that another one is it has the next call find that.
func (g *group) coordinate(call func(*sarama.Broker) (sarama.KError, error)) error {
	broker, err := g.d.conn.client.Coordinator(g.id)
	if err != nil {
		return err
	}
	told, err := call(broker)
	if err == nil && told != sarama.ErrNoError {
		err = told
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sarama.ErrUnknownMemberId), errors.Is(err, sarama.ErrFencedInstancedId), errors.Is(err, sarama.ErrIllegalGeneration) && g.joining == nil:
		return errLost
	case errors.Is(err, sarama.ErrRebalanceInProgress), errors.Is(err, sarama.ErrIllegalGeneration): // there will be another one
		return err
	case !isAnswer(err):
		_ = broker.Close()
	}
	g.recoordinate()
	return err
}

func isAnswer(err error) bool {
	var told sarama.KError
	return errors.As(err, &told)
}

// recoordinate has the coordinator looked for again.
func (g *group) recoordinate() { _ = g.d.conn.client.RefreshCoordinator(g.id) }

// heartbeat says that the member is there, and learns whether the group is joined anew.
func (g *group) heartbeat() error {
	if g.name == "" {
		return nil
	}
	sent := time.Now()
	err := g.coordinate(func(b *sarama.Broker) (sarama.KError, error) {
		answer, err := b.Heartbeat(&sarama.HeartbeatRequest{Version: 3, GroupId: g.id, MemberId: g.name, GenerationId: g.generation})
		if err != nil {
			return 0, err
		}
		return answer.Err, nil
	})
	switch {
	case errors.Is(err, sarama.ErrRebalanceInProgress):
		if g.joining == nil {
			g.joinBy = time.Now()
		}
	case errors.Is(err, sarama.ErrIllegalGeneration):
		return nil
	case err != nil:
		return err
	}
	g.Lease(sent.Add(g.d.opts.SessionTimeout))
	if g.joining == nil {
		g.backoff.Reset()
		g.failing = 0
	}
	return nil
}

// flush commits what has changed.
func (g *group) flush() error {
	changes := g.Changes(g.joining == nil)
	if len(changes) == 0 {
		return nil
	}
	request := sarama.NewOffsetCommitRequest(g.d.conn.client.Config(), g.id)
	request.ConsumerID, request.ConsumerGroupGeneration = g.name, g.generation
	var err error
	for _, c := range changes {
		var text string
		if text, err = g.fit(c.Part.ID(), metadata(c.State)); err != nil {
			break
		}
		request.AddBlock(g.topic, c.Part.ID(), c.State.Offset, 0, text)
	}
	if err == nil {
		err = g.commit(request)
	}
	if err == nil {
		return nil
	}
	g.Again(changes...)
	if g.joining != nil && (errors.Is(err, sarama.ErrRebalanceInProgress) || errors.Is(err, sarama.ErrIllegalGeneration)) {
		return nil // after it
	}
	return fmt.Errorf("commit: %w", err)
}

func (g *group) commit(request *sarama.OffsetCommitRequest) error {
	return g.coordinate(func(b *sarama.Broker) (sarama.KError, error) {
		answer, err := b.CommitOffset(request)
		if err != nil {
			return 0, err
		}
		for _, all := range answer.Errors {
			for _, one := range all {
				if one != sarama.ErrNoError {
					return one, nil
				}
			}
		}
		return 0, nil
	})
}

// committed reads what the group has committed.
func (g *group) committed() (map[int32]*parts.Progress, error) {
	topics := map[string][]int32{}
	for p := range g.partitions {
		topics[g.topic] = append(topics[g.topic], p)
	}
	all := map[int32]*parts.Progress{}
	err := g.coordinate(func(b *sarama.Broker) (sarama.KError, error) {
		answer, err := b.FetchOffset(sarama.NewOffsetFetchRequest(version, g.id, topics))
		if err != nil {
			return 0, err
		}
		if answer.Err != sarama.ErrNoError {
			return answer.Err, nil
		}
		for id, block := range answer.Blocks[g.topic] {
			if block.Err != sarama.ErrNoError {
				return block.Err, nil
			}
			if block.Offset < 0 {
				continue
			}
			if all[id], err = g.decode(id, block); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what is committed: %w", err)
	}
	return all, nil
}

// decode reads what is committed of a partition.
func (g *group) decode(id int32, block *sarama.OffsetFetchResponseBlock) (*parts.Progress, error) {
	metadata, err := g.find(id, block.Metadata)
	if err != nil && !errors.Is(err, sarama.ErrOffsetOutOfRange) && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return nil, err
	}
	if err == nil {
		var p *parts.Progress
		if p, err = progress(block.Offset, metadata); err == nil {
			return p, nil
		}
	}
	g.log.Error("what the group has kept of a partition cannot be read: all from its offset on comes again", "partition", id, "err", err)
	return progress(block.Offset, "")
}

// begin answers where partitions are gone on with.
func (g *group) begin(missing []int32, to move) (map[int32]*parts.Progress, error) {
	committed, err := g.committed()
	if err != nil {
		return nil, err
	}
	count := int64(g.partitions)
	for _, c := range committed {
		if c.Count > 0 {
			count = c.Count
		}
	}
	for _, id := range missing {
		c := committed[id]
		from, moved := sarama.OffsetNewest, to.Number
		switch {
		case c != nil && c.Moved >= to.Number:
			continue
		case to.Number > 0:
			from = to.Time
		case g.earliest || int64(id) >= count: // the partition is newer than the group
			from = sarama.OffsetOldest
		}
		at, err := g.d.conn.client.GetOffset(g.topic, id, from)
		if err == nil && at < 0 { // there is nothing since then
			at, err = g.d.conn.client.GetOffset(g.topic, id, sarama.OffsetNewest)
		}
		if err != nil {
			return nil, fmt.Errorf("offset of partition %d: %w", id, err)
		}
		committed[id] = parts.Begin(at)
		committed[id].Count, committed[id].Moved = count, moved
	}
	return committed, nil
}

// leave leaves the group.
func (g *group) leave() error {
	if g.name == "" {
		return errLeft
	}
	_ = g.coordinate(func(b *sarama.Broker) (sarama.KError, error) { // who is not heard of has left, too
		_, err := b.LeaveGroup(&sarama.LeaveGroupRequest{Version: 3, GroupId: g.id, Members: []sarama.MemberIdentity{{MemberId: g.name}}})
		return 0, err
	})
	return errLeft
}

// consumer makes one with connections of its own: what waits for events on one would hold up others.
func (c *conn) consumer() (sarama.Consumer, error) {
	config := c.config()
	config.Consumer.Return.Errors = true
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	config.Consumer.MaxWaitTime = 250 * time.Millisecond
	config.Consumer.Retry.Backoff = 250 * time.Millisecond
	return sarama.NewConsumer(c.opts.Addresses, config)
}
