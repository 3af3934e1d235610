package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

var (
	postgresServer = install.Tool{Name: "/usr/lib/postgresql/*/bin/postgres", Packages: "postgresql"}
	psqlClient     = install.Tool{Name: "psql", Packages: "postgresql-client"}
)

var postgres = Kind{Name: "postgres", About: "one PostgreSQL, with passwords, with and without TLS; database postgres; the limited user may connect",
	install: needs(postgresServer, psqlClient), start: startPostgres}

func startPostgres(ctx context.Context, s *Server) error {
	binary, err := postgresServer.Path()
	if err != nil {
		return err
	}
	at, err := freePort()
	if err != nil {
		return err
	}
	s.users()
	certs, err := s.certificates()
	if err != nil {
		return err
	}
	n, err := s.postgresNode("postgres", at, binary)
	if err != nil {
		return err
	}
	if err := s.initdb(ctx, n, filepath.Dir(binary), certs); err != nil {
		return err
	}
	if err := s.boot(ctx, n); err != nil {
		return err
	}
	return s.limitPostgres(ctx)
}

// limitPostgres makes the limited user.
func (s *Server) limitPostgres(ctx context.Context) error {
	_, err := s.Psql(ctx, fmt.Sprintf("create role %s login password '%s'", s.Limited, s.LimitedPassword))
	return err
}

func (s *Server) askPostgres(n *Node) func(context.Context) (string, int, error) {
	return func(ctx context.Context) (string, int, error) {
		version, err := s.PsqlAt(ctx, n, "select split_part(current_setting('server_version'), ' ', 1)")
		return version, 0, err
	}
}

// postgresNode is one at that port, which has a folder without data yet.
func (s *Server) postgresNode(name string, at int, binary string) (*Node, error) {
	n, err := s.node(name, at, program{product: "postgres", user: "postgres", limit: time.Minute, stop: syscall.SIGINT})
	if err != nil {
		return nil, err
	}
	n.args = []string{binary, "-D", n.Dir, "-c", "listen_addresses=127.0.0.1", "-p", strconv.Itoa(at), "-c", "unix_socket_directories=",
		"-c", "dynamic_shared_memory_type=mmap", "-c", "ssl=on"} // mmap keeps what is shared in its folder, too
	for _, setting := range s.settings {
		n.args = append(n.args, "-c", setting)
	}
	n.ask = s.askPostgres(n)
	n.tidy = func() error { return dropShared(n.Dir) }
	return n, nil
}

// Replica adds a PostgreSQL that follows the first one, after it unless that one is told to wait. It becomes the primary with
// PsqlAt(replica, "select pg_promote()").
func (s *Server) Replica(ctx context.Context) (*Node, error) {
	binary, err := postgresServer.Path()
	if err != nil {
		return nil, err
	}
	at, err := freePort()
	if err != nil {
		return nil, err
	}
	n, err := s.postgresNode("replica", at, binary)
	if err != nil {
		return nil, err
	}
	as, err := runAs(n.user)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(binary), "pg_basebackup"), "-D", n.Dir, "-R", "-c", "fast",
		"-h", "127.0.0.1", "-p", strconv.Itoa(port(s.Addr())), "-U", s.User)
	cmd.Dir, cmd.Env = n.Dir, append(os.Environ(), "PGPASSWORD="+s.Password)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	return n, s.boot(ctx, n)
}

// initdb makes the folder, with a user who may do all, and hands the server a copy of the certificate that its own user can read.
func (s *Server) initdb(ctx context.Context, n *Node, dir string, certs certificates) error {
	as, err := runAs(n.user)
	if err != nil {
		return err
	}
	password, err := s.file("postgres-password", s.Password+"\n")
	if err != nil {
		return err
	}
	if err := giveTo(as, password); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "initdb"), "-D", n.Dir, "-U", s.User, "-A", "scram-sha-256", "--pwfile="+password, "-N", "-E", "UTF8", "--locale=C")
	cmd.Dir = n.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	for name, from := range map[string]string{"server.crt": certs.cert, "server.key": certs.key} {
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		to := filepath.Join(n.Dir, name)
		if err := os.WriteFile(to, text, 0o600); err != nil {
			return err
		}
		if err := giveTo(as, to); err != nil {
			return err
		}
	}
	return nil
}

// Psql runs a statement in a PostgreSQL as the user who may do all, and answers its rows, with | between the columns.
func (s *Server) Psql(ctx context.Context, statement string) (string, error) {
	return s.PsqlAt(ctx, s.Nodes[0], statement)
}

// PsqlAt is Psql at one of several nodes.
func (s *Server) PsqlAt(ctx context.Context, n *Node, statement string) (string, error) {
	cmd := exec.CommandContext(ctx, "psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", strconv.Itoa(port(n.Addr)),
		"-U", s.User, "-d", "postgres", "-c", statement)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+s.Password)
	if s.CA != "" {
		cmd.Env = append(cmd.Env, "PGSSLMODE=verify-ca", "PGSSLROOTCERT="+s.CA)
	}
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("psql: %w: %s", err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// dropShared removes the System V segment that one which was killed leaves behind. Line 7 of its postmaster.pid has the key and the
// number of it.
func dropShared(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it ended in order
	}
	if err != nil {
		return err
	}
	const line = 7
	lines := strings.Split(string(text), "\n")
	if len(lines) < line {
		return nil // it did not come so far
	}
	var key, id int
	if _, err := fmt.Sscan(lines[line-1], &key, &id); err != nil {
		return fmt.Errorf("no shared memory in line %d of postmaster.pid, %q: %w", line, lines[line-1], err)
	}
	about := unix.SysvShmDesc{}
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &about); err != nil || about.Perm.Key != int32(key) {
		return nil // it went, and its number may be another's
	}
	if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
		return fmt.Errorf("shared memory %d: %w", id, err)
	}
	return nil
}
