package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A call that found no way was never sent.
func TestAccessLogCountsWhatWasSent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access")
	s := start(t, "telemetry: {access_log: "+path+"}\n")
	ctx := metadata.AppendToOutgoingContext(within(t, 10*time.Second), "outrigger-service", "nobody")
	if err := dial(t, s.grpc).Invoke(ctx, "/shop.Stock/Get", &emptypb.Empty{}, &emptypb.Empty{}); err == nil {
		t.Fatal("a service that is not there has answered")
	}
	eventually(t, func() error {
		line, err := os.ReadFile(path)
		if err == nil && (!strings.Contains(string(line), "no-route") || !regexp.MustCompile(`attempts"?[=:]0\b`).Match(line)) {
			err = fmt.Errorf("access log: %q", line)
		}
		return err
	})
}
