package local_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// TestLargeJobsAreListed through the front, which goes by what the driver's pages come to.
func TestLargeJobsAreListed(t *testing.T) {
	c := components.NewComponent[schedule.Driver](components.ID{Capability: "schedule", Name: "large", Driver: "local"}, components.Limits{}, nil)
	d := backend(t).Open()
	t.Cleanup(func() {
		if err := d.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	c.Set(d)
	front, who := schedule.New(c, slog.New(slog.DiscardHandler)), components.Caller{Namespace: "shop", App: "orders"}
	for i := range 3 {
		j := schedule.Job{Name: fmt.Sprint(i), Trigger: schedule.Trigger{Every: time.Hour}, Data: make([]byte, schedule.PageBytes*3/4)}
		if _, err := front.Create(t.Context(), who, j, false); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	token := ""
	for {
		jobs, next, err := front.List(t.Context(), who, "", 0, token)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range jobs {
			seen = append(seen, j.Job.Name)
		}
		if token = next; token == "" {
			break
		}
	}
	if fmt.Sprint(seen) != "[0 1 2]" {
		t.Errorf("the pages have %q", seen)
	}
}
