package servers

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

var (
	kafkaSingle = Kind{Name: "kafka", About: "one Kafka broker and controller (KRaft), with ports for SASL and TLS; the limited user may do nothing",
		install: installKafka, start: func(ctx context.Context, s *Server) error { return startKafka(ctx, s, 1) }}
	kafkaCluster = Kind{Name: "kafka-cluster", About: "three Kafka brokers and controllers (KRaft): three replicas, min.insync.replicas 2; ports and users as kafka",
		install: installKafka, start: func(ctx context.Context, s *Server) error { return startKafka(ctx, s, 3) }}
)

//go:embed java/kafka.xml
var kafkaPOM string

func kafkaJars(ctx context.Context) (string, error) { return jars(ctx, "kafka", kafkaPOM, nil) }

func installKafka(ctx context.Context) error { _, err := kafkaJars(ctx); return err }

// java is a virtual machine that starts soon, and leaves nothing outside dir: not in the temporary folder, not in that of its user.
func java(dir string, args ...string) []string {
	return append([]string{"java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Djava.io.tmpdir=" + dir, "-Duser.home=" + dir}, args...)
}

// kafkaLog has warnings, the line with the version, and what happens to groups.
var kafkaLog = []string{"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.utils.internals.AppInfoParser=info",
	"-Dorg.slf4j.simpleLogger.log.org.apache.kafka.coordinator.group.GroupMetadataManager=info"}

func startKafka(ctx context.Context, s *Server, brokers int) error {
	dir, err := kafkaJars(ctx)
	if err != nil {
		return err
	}
	at, err := freePorts(4 * brokers)
	if err != nil {
		return err
	}
	s.users()
	if err := s.keystore(); err != nil {
		return err
	}
	voters := []string{}
	for i := range brokers {
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, local(at[4*i+1])))
	}
	id := make([]byte, 16)
	rand.Read(id)
	id[0] &= 0x7f // as text it must not begin with a dash
	all, format := []*Node{}, errgroup.Group{}
	for i := range brokers {
		n, err := s.node(fmt.Sprintf("kafka-%d", i+1), at[4*i], program{product: "kafka", limit: 3 * time.Minute})
		if err != nil {
			return err
		}
		n.Ports = map[string]int{"controller": at[4*i+1], "sasl": at[4*i+2], "tls": at[4*i+3]}
		file, err := s.file(n.Name+".properties", s.kafkaConfig(n, i+1, brokers, strings.Join(voters, ",")))
		if err != nil {
			return err
		}
		vm := append(java(n.Dir, kafkaLog...), "-cp", filepath.Join(dir, "lib", "*"))
		n.args = append(vm[:len(vm):len(vm)], "kafka.Kafka", file)
		n.ask = func(ctx context.Context) (string, int, error) { return askKafka(ctx, n, brokers) }
		all = append(all, n)
		format.Go(func() error {
			args := append(vm[:len(vm):len(vm)], "kafka.tools.StorageTool", "format", "-t", base64.RawURLEncoding.EncodeToString(id), "-c", file,
				"--add-scram", fmt.Sprintf("SCRAM-SHA-256=[name=%s,password=%s]", s.User, s.Password),
				"--add-scram", fmt.Sprintf("SCRAM-SHA-256=[name=%s,password=%s]", s.Limited, s.LimitedPassword))
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Dir, cmd.SysProcAttr = n.Dir, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("format: %w\n%s", err, out)
			}
			return nil
		})
	}
	if err := format.Wait(); err != nil {
		return err
	}
	return s.boot(ctx, all...)
}

// keystore lays the key and the certificate into one file, tls/keystore.pem, as programs in Java read them.
func (s *Server) keystore() error {
	certs, err := s.certificates()
	if err != nil {
		return err
	}
	key, err := os.ReadFile(certs.key)
	if err != nil {
		return err
	}
	cert, err := os.ReadFile(certs.cert)
	if err != nil {
		return err
	}
	_, err = s.file("tls/keystore.pem", string(key)+string(cert))
	return err
}

func (s *Server) kafkaConfig(n *Node, id, brokers int, voters string) string {
	const login = "org.apache.kafka.common.security."
	replicas, inSync := min(brokers, 3), max(1, min(brokers, 3)-1)
	lines := []string{
		"process.roles=broker,controller",
		fmt.Sprintf("node.id=%d", id),
		"controller.quorum.voters=" + voters,
		fmt.Sprintf("listeners=PLAINTEXT://%s,CONTROLLER://%s,SASL://%s,TLS://%s", n.Addr, local(n.Ports["controller"]), local(n.Ports["sasl"]), local(n.Ports["tls"])),
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL",
		"controller.listener.names=CONTROLLER",
		"inter.broker.listener.name=PLAINTEXT",
		"listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256",
		fmt.Sprintf("listener.name.sasl.plain.sasl.jaas.config=%splain.PlainLoginModule required user_%s=%q user_%s=%q;", login, s.User, s.Password, s.Limited, s.LimitedPassword),
		"listener.name.sasl.scram-sha-256.sasl.jaas.config=" + login + "scram.ScramLoginModule required;",
		"listener.name.tls.ssl.keystore.type=PEM",
		"listener.name.tls.ssl.keystore.location=" + filepath.Join(s.Dir, "tls", "keystore.pem"),
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS;User:" + s.User,
		"log.dirs=" + filepath.Join(n.Dir, "data"),
		"num.partitions=3",
		fmt.Sprintf("default.replication.factor=%d", replicas),
		fmt.Sprintf("min.insync.replicas=%d", inSync),
		fmt.Sprintf("offsets.topic.replication.factor=%d", replicas),
		"offsets.topic.num.partitions=4",
		fmt.Sprintf("transaction.state.log.replication.factor=%d", replicas),
		fmt.Sprintf("transaction.state.log.min.isr=%d", inSync),
		"transaction.state.log.num.partitions=4",
		fmt.Sprintf("share.coordinator.state.topic.replication.factor=%d", replicas),
		fmt.Sprintf("share.coordinator.state.topic.min.isr=%d", inSync),
		"group.initial.rebalance.delay.ms=0",
		"group.min.session.timeout.ms=1000",
		"broker.session.timeout.ms=3000", // a broker that was killed is let in again after it
		"broker.heartbeat.interval.ms=500",
		"replica.lag.time.max.ms=4000",
		"log.cleaner.dedupe.buffer.size=2097152",
	}
	return strings.Join(append(lines, s.settings...), "\n") + "\n"
}

var kafkaVersion = regexp.MustCompile(`Kafka version: (\S+)`)

// askKafka: a broker is ready when it knows of all of them that run at first, or of a majority later, and of itself. Its version
// it tells only in its log.
func askKafka(ctx context.Context, n *Node, brokers int) (string, int, error) {
	known, err := kafkaBrokers(ctx, n.Addr)
	if err != nil {
		return "", 0, err
	}
	if !known[n.Addr] {
		return "", 0, fmt.Errorf("it is not among the brokers it knows: %v", known)
	}
	if n.version == "" && len(known) < brokers {
		return "", 0, fmt.Errorf("it knows of %d brokers", len(known))
	}
	text, err := os.ReadFile(n.Log)
	if err != nil {
		return "", 0, err
	}
	all := kafkaVersion.FindAllStringSubmatch(string(text), -1)
	if len(all) == 0 {
		return "", 0, errors.New("its log does not have its version")
	}
	return all[len(all)-1][1], 0, nil
}

var kafkaRebalance = regexp.MustCompile(`Preparing to rebalance group (\S+) `)

// KafkaRebalances is how often the groups whose names begin so have begun to share out their partitions anew, as the brokers' logs say.
func (s *Server) KafkaRebalances(groups string) (n int, err error) {
	for _, node := range s.Nodes {
		text, err := os.ReadFile(node.Log)
		if err != nil {
			return 0, err
		}
		for _, m := range kafkaRebalance.FindAllSubmatch(text, -1) {
			if strings.HasPrefix(string(m[1]), groups) {
				n++
			}
		}
	}
	return n, nil
}
