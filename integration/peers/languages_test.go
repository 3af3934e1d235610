package peers

import "time"

// language is one implementation of gRPC and how its program is made and started, in the folder that prepare fills.
type language struct {
	name  string
	tools []tool
	steps [][]string // in order; each may reach a package registry
	run   []string   // the role and its argument follow
	env   []string
	idle  time.Duration // longer than its server's keepalive and what that grants the answer to a PING
}

// tool is a program that must be there, with the Debian packages that bring it.
type tool struct {
	name     string
	probe    []string // succeeds if it is there; looked up on PATH unless set
	packages []string
}

var languages = []*language{
	{
		name: "node",
		tools: []tool{
			{name: "node", packages: []string{"nodejs"}},
			{name: "npm", packages: []string{"npm"}},
		},
		steps: [][]string{{"npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"}},
		run:   []string{"node", "peer.js"},
		idle:  6 * time.Second,
	},
	{
		name: "python",
		tools: []tool{
			{name: "python3 with venv", probe: []string{"python3", "-c", "import venv, ensurepip"},
				packages: []string{"python3", "python3-venv"}},
		},
		steps: [][]string{
			{"python3", "-m", "venv", "venv"},
			{"venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r", "requirements.txt"},
			{"venv/bin/python", "-m", "grpc_tools.protoc", "-Iproto", "--python_out=.", "--grpc_python_out=.",
				"echo.proto", "outrigger/cache/v1/cache.proto", "outrigger/common/v1/common.proto"},
		},
		run:  []string{"venv/bin/python", "peer.py"},
		env:  []string{"PYTHONDONTWRITEBYTECODE=1"},
		idle: 6 * time.Second,
	},
	{
		name: "java",
		tools: []tool{
			{name: "javac", packages: []string{"default-jdk-headless"}},
			{name: "mvn", packages: []string{"maven"}},
		},
		steps: [][]string{{"mvn", "--batch-mode", "--quiet", "compile", "dependency:copy-dependencies"}},
		run:   []string{"java", "-XX:+UseSerialGC", "-cp", "target/classes:target/dependency/*", "peer.Peer"},
		idle:  14 * time.Second,
	},
	{
		name: "cpp",
		tools: []tool{
			{name: "make", packages: []string{"make"}},
			{name: "g++", packages: []string{"g++"}},
			{name: "protoc with its own .proto files", probe: []string{"protoc", "-I/usr/include", "-o/dev/null", "google/protobuf/any.proto"},
				packages: []string{"protobuf-compiler", "libprotobuf-dev"}},
			{name: "grpc_cpp_plugin", packages: []string{"protobuf-compiler-grpc"}},
			{name: "libgrpc++", probe: []string{"pkg-config", "--exists", "grpc++", "protobuf"},
				packages: []string{"pkg-config", "libgrpc++-dev"}},
		},
		steps: [][]string{{"make", "--silent", "-j2"}},
		run:   []string{"./peer"},
		idle:  6 * time.Second,
	},
}
