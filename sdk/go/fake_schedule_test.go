package client_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	schedulev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"
)

// schedule has no idea of time: each job fires once, at once, until it is acknowledged or rejected.
type schedule struct {
	schedulev1.UnimplementedScheduleServer
	mu       sync.Mutex
	jobs     map[string]*schedulev1.JobState
	attempts map[string]int32
	changed  chan struct{}
	draining chan struct{} // closed by the test
	settled  []string      // what was said
}

func newSchedule() *schedule {
	return &schedule{jobs: map[string]*schedulev1.JobState{}, attempts: map[string]int32{}, changed: make(chan struct{}), draining: make(chan struct{})}
}

// change is called with mu held.
func (s *schedule) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *schedule) Create(_ context.Context, in *schedulev1.CreateRequest) (*schedulev1.CreateResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := in.GetJob().GetName()
	if there := s.jobs[name]; there != nil && !in.GetReplace() && !proto.Equal(there.GetJob(), in.GetJob()) {
		return nil, problem(codes.AlreadyExists, "JOB_EXISTS", "another job has that name")
	}
	s.jobs[name] = &schedulev1.JobState{Job: in.GetJob(), Next: in.GetJob().GetTrigger().GetAt()}
	s.change()
	return &schedulev1.CreateResponse{Next: in.GetJob().GetTrigger().GetAt()}, nil
}

func (s *schedule) Get(_ context.Context, in *schedulev1.GetRequest) (*schedulev1.GetResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[in.GetName()]; j != nil {
		return &schedulev1.GetResponse{State: j}, nil
	}
	return nil, problem(codes.NotFound, "JOB_NOT_FOUND", "there is no such job")
}

// List answers a job a page.
func (s *schedule) List(_ context.Context, in *schedulev1.ListRequest) (*schedulev1.ListResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.jobs)) {
		if strings.HasPrefix(name, in.GetPrefix()) && name > in.GetPageToken() {
			return &schedulev1.ListResponse{Jobs: []*schedulev1.JobState{s.jobs[name]}, NextPageToken: name}, nil
		}
	}
	return &schedulev1.ListResponse{}, nil
}

func (s *schedule) Delete(_ context.Context, in *schedulev1.DeleteRequest) (*schedulev1.DeleteResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.jobs, in.GetName())
	return &schedulev1.DeleteResponse{}, nil
}

func (s *schedule) Watch(stream schedulev1.Schedule_WatchServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := stream.Send(&schedulev1.WatchResponse{Message: &schedulev1.WatchResponse_Started_{Started: &schedulev1.WatchResponse_Started{}}}); err != nil {
		return err
	}
	heard, credit, held, draining := make(chan *schedulev1.WatchRequest), first.GetStart().GetCredit().GetMessages(), map[string]bool{}, s.draining
	go func() {
		defer close(heard)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			heard <- m
		}
	}()
	for {
		s.mu.Lock()
		changed := s.changed
		var due []*schedulev1.WatchResponse_Delivery
		for _, name := range slices.Sorted(maps.Keys(s.jobs)) {
			j := s.jobs[name]
			if j.GetLast() == nil && !held[name] && credit > 0 && strings.HasPrefix(name, first.GetStart().GetPrefix()) {
				s.attempts[name]++
				held[name], credit = true, credit-1
				due = append(due, &schedulev1.WatchResponse_Delivery{DeliveryId: name, Attempt: s.attempts[name], FiringId: "firing of " + name, Name: name,
					Scheduled: timestamppb.Now(), Data: j.GetJob().GetData()})
			}
		}
		s.mu.Unlock()
		for _, d := range due {
			if err := stream.Send(&schedulev1.WatchResponse{Message: &schedulev1.WatchResponse_Delivery_{Delivery: d}}); err != nil {
				return err
			}
		}
		select {
		case m, ok := <-heard:
			if !ok {
				return nil
			}
			credit += m.GetCredit().GetMessages()
			s.settle(m, held)
		case <-changed:
		case <-draining:
			draining = nil
			if err := stream.Send(&schedulev1.WatchResponse{Message: &schedulev1.WatchResponse_Draining{}}); err != nil && err != io.EOF {
				return err
			}
		}
	}
}

func (s *schedule) settle(m *schedulev1.WatchRequest, held map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := func(name, how string) {
		s.settled = append(s.settled, fmt.Sprint(how, " ", name))
		if j := s.jobs[name]; j != nil && how != "nack" {
			j.Last = timestamppb.Now()
		}
		delete(held, name)
	}
	for _, name := range m.GetAck().GetDeliveryIds() {
		done(name, "ack")
	}
	if n := m.GetNack(); n != nil {
		done(n.GetDeliveryId(), "nack")
	}
	if r := m.GetReject(); r != nil {
		done(r.GetDeliveryId(), "reject")
	}
	if e := m.GetExtend(); e != nil {
		s.settled = append(s.settled, "extend "+e.GetDeliveryId())
	}
}

// said is what was, but for repeated extensions.
func (s *schedule) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Compact(slices.Clone(s.settled))
}
