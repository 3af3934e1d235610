package peers

import (
	"time"

	"github.com/outrigger-mesh/outrigger/integration/lang"
)

// language is one implementation of gRPC and the program that uses it; the role and its argument follow its Run.
type language struct {
	lang.Program
	name string
	idle time.Duration // longer than its server's keepalive and what that grants the answer to a PING
}

var protos = map[string]string{
	"echo.proto":                       "integration/echopb/echo.proto",
	"details.proto":                    "integration/peers/details.proto",
	"outrigger/cache/v1/cache.proto":   "proto/outrigger/cache/v1/cache.proto",
	"outrigger/common/v1/common.proto": "proto/outrigger/common/v1/common.proto",
}

var languages = []*language{
	peer("node", lang.Node(), 6*time.Second, "node", "peer.js"),
	peer("python", lang.Python("echo.proto", "outrigger/cache/v1/cache.proto", "outrigger/common/v1/common.proto"),
		6*time.Second, "venv/bin/python", "peer.py"),
	peer("java", lang.Java(), 14*time.Second, lang.RunJava("peer.Peer")...),
	peer("cpp", lang.CPP(), 6*time.Second, "./peer"),
}

func peer(name string, made lang.Language, idle time.Duration, run ...string) *language {
	return &language{name: name, idle: idle, Program: lang.Program{
		Name: "peers/" + name, From: "integration/peers/" + name, Protos: protos, Language: made, Run: run}}
}
