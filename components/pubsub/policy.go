package pubsub

import (
	"errors"
	"fmt"
	"time"
)

// MaxSpan bounds delays, and how long something is kept: a time that is further away than a clock can tell would be past.
const MaxSpan = 100 * 366 * 24 * time.Hour

// Policy is the part of a driver's options that the front goes by.
type Policy struct {
	MaxAttempts     int           `yaml:"max_attempts" doc:"deliveries of an event to a group before it is given up"`
	MaxDelay        time.Duration `yaml:"max_delay" doc:"the longest delay of a nack; a longer one is cut"`
	DeadLetterTopic string        `yaml:"dead_letter_topic" doc:"where what was rejected or given up goes; empty: it is dropped"`
}

// DefaultPolicy loses nothing.
var DefaultPolicy = Policy{MaxAttempts: 20, MaxDelay: time.Hour, DeadLetterTopic: "dead-letters"}

// Validate says what is wrong; of durations that are negative, configuration does.
func (p Policy) Validate() error {
	var faults []error
	if p.MaxAttempts < 1 {
		faults = append(faults, fmt.Errorf("max_attempts: %d is less than 1", p.MaxAttempts))
	}
	if p.MaxDelay > MaxSpan {
		faults = append(faults, fmt.Errorf("max_delay: %s is longer than %s", p.MaxDelay, MaxSpan))
	}
	if p.DeadLetterTopic != "" {
		if err := checkName("dead_letter_topic", p.DeadLetterTopic); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// delay is d within its bounds.
func (p Policy) delay(d time.Duration) time.Duration { return min(max(d, 0), p.MaxDelay) }
