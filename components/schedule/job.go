package schedule

import (
	"fmt"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	// MaxJob bounds what a job carries, data and metadata, in bytes.
	MaxJob = 1 << 20
	// PageBytes is what the data of a page of a list come to at most, unless there is only one job.
	PageBytes = 1 << 20

	maxContentType = 256
)

// check refuses what no driver has to look at. Whether a job ever fires depends on the time, and is the driver's to say.
func (j Job) check() error {
	if err := components.CheckKey(j.Name); err != nil {
		return err
	}
	if err := j.Trigger.Check(); err != nil {
		return fmt.Errorf("job %.64q: %w", j.Name, err)
	}
	switch {
	case j.Missed < Once || j.Missed > All:
		return invalid("job %.64q: %d is not what can be done about missed firings", j.Name, j.Missed)
	case j.Repeats < 0:
		return invalid("job %.64q: %d repeats are negative; 0 means without bound", j.Name, j.Repeats)
	case len(j.ContentType) > maxContentType || strings.ContainsAny(j.ContentType, "\x00\r\n"):
		return invalid("job %.64q: the content type is not one", j.Name)
	}
	for name := range j.Metadata {
		if err := components.CheckKey(name); err != nil {
			return fmt.Errorf("job %.64q: metadata: %w", j.Name, err)
		}
	}
	if size := j.Size(); size > MaxJob {
		return components.WithReason(fmt.Errorf("%w: job %.64q has %d bytes of data and metadata, more than %d", components.ErrExhausted,
			j.Name, size, MaxJob), ReasonJobLarge, "limit", "job")
	}
	return nil
}
