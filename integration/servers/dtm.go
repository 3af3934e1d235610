package servers

import (
	"context"
	"fmt"
	"strings"
	"time"
)

var dtm = Kind{Name: "dtm", About: "one DTM, with its store in a file", Wild: true, install: installDTM, start: startDTM}

// dtmVersion is that of modules/dtm; a DTM says what it was built to say, as its own releases are.
const dtmVersion = "v1.19.0"

func dtmBinary(ctx context.Context) (string, error) {
	return goBinary(ctx, "dtm", "github.com/dtm-labs/dtm", "-X main.Version="+dtmVersion)
}

func installDTM(ctx context.Context) error { _, err := dtmBinary(ctx); return err }

func startDTM(ctx context.Context, s *Server) error {
	binary, err := dtmBinary(ctx)
	if err != nil {
		return err
	}
	at, err := freePorts(3)
	if err != nil {
		return err
	}
	n, err := s.node("dtm", at[0], program{product: "dtm", limit: 30 * time.Second})
	if err != nil {
		return err
	}
	n.Ports["grpc"], n.Ports["json-rpc"] = at[1], at[2]
	config, err := s.file("dtm.yml", fmt.Sprintf(`Store: {Driver: boltdb}
HttpPort: %d
GrpcPort: %d
JsonRpcPort: %d
TransCronInterval: 1
RetryInterval: 10
ConfigUpdateInterval: 1
LogLevel: warn
%s
`, at[0], at[1], at[2], strings.Join(s.settings, "\n")))
	if err != nil {
		return err
	}
	n.args = []string{binary, "-c", config}
	n.ask = func(ctx context.Context) (string, int, error) {
		answer := struct{ Version string }{}
		err := getJSON(ctx, "http://"+n.Addr+"/api/dtmsvr/version", &answer)
		return answer.Version, 0, err
	}
	return s.boot(ctx, n)
}
