package lang

import "github.com/outrigger-mesh/outrigger/integration/install"

// Node is Node.js with npm; its programs read the proto files when they start.
func Node() Language {
	return Language{
		Tools: []install.Tool{{Name: "node", Packages: "nodejs"}, {Name: "npm", Packages: "npm"}},
		Steps: [][]string{{"npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"}},
	}
}

// Python is Python 3 in an environment of its own in venv, with the stubs of the proto files named.
func Python(protos ...string) Language {
	return Language{
		Tools: []install.Tool{{Name: "python3 with venv", Probe: []string{"python3", "-c", "import venv, ensurepip"},
			Packages: "python3 python3-venv"}},
		Steps: [][]string{
			{"python3", "-m", "venv", "venv"},
			{"venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r", "requirements.txt"},
			append([]string{"venv/bin/python", "-m", "grpc_tools.protoc", "-Iproto", "--python_out=.", "--grpc_python_out=."}, protos...),
		},
		Env: []string{"PYTHONDONTWRITEBYTECODE=1"},
	}
}

// Java is made by Maven into target/classes, and what it depends on into target/dependency.
func Java() Language {
	return Language{
		Tools: []install.Tool{{Name: "javac", Packages: "default-jdk-headless"}, {Name: "mvn", Packages: "maven"}},
		Steps: [][]string{{"mvn", "--batch-mode", "--quiet", "compile", "dependency:copy-dependencies"}},
	}
}

// RunJava starts a class that Java made.
func RunJava(class string) []string {
	return []string{"java", "-XX:+UseSerialGC", "-cp", "target/classes:target/dependency/*", class}
}

// CPP is C++ with the distribution's gRPC, made by the program's Makefile.
func CPP() Language {
	return Language{
		Tools: []install.Tool{
			{Name: "make", Packages: "make"},
			{Name: "g++", Packages: "g++"},
			{Name: "protoc with its own .proto files", Probe: []string{"protoc", "-I/usr/include", "-o/dev/null", "google/protobuf/any.proto"},
				Packages: "protobuf-compiler libprotobuf-dev"},
			{Name: "grpc_cpp_plugin", Packages: "protobuf-compiler-grpc"},
			{Name: "libgrpc++", Probe: []string{"pkg-config", "--exists", "grpc++", "protobuf"},
				Packages: "pkg-config libgrpc++-dev"},
		},
		Steps: [][]string{{"make", "--silent", "-j2"}},
	}
}
