package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

var (
	mariadbServer = install.Tool{Name: "/usr/sbin/mariadbd", Packages: "mariadb-server-core"}
	mariadbClient = install.Tool{Name: "mariadb", Packages: "mariadb-client-core"}
)

var mariadb = Kind{Name: "mariadb", About: "one MariaDB, with a password, in the place of a MySQL", install: needs(mariadbServer, mariadbClient), start: startMariaDB}

func startMariaDB(ctx context.Context, s *Server) error {
	at, err := freePort()
	if err != nil {
		return err
	}
	s.users()
	s.Limited, s.LimitedPassword = "", ""
	n, err := s.node("mariadb", at, program{product: "mariadb", limit: time.Minute})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mariadb-install-db", "--no-defaults", "--datadir="+n.Dir, "--auth-root-authentication-method=normal", "--skip-test-db")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	users, err := s.file("users.sql", fmt.Sprintf("create user if not exists '%s'@'%%' identified by '%s';\ngrant all on *.* to '%s'@'%%';\ndrop user if exists 'root'@'localhost', 'root'@'127.0.0.1', 'root'@'::1';\n",
		s.User, s.Password, s.User))
	if err != nil {
		return err
	}
	n.args = []string{mariadbServer.Name, "--no-defaults", "--user=root", "--datadir=" + n.Dir, "--bind-address=127.0.0.1", "--port=" + strconv.Itoa(at),
		"--socket=mariadb.sock", "--pid-file=mariadb.pid", "--skip-name-resolve", "--init-file=" + users} // user is passed over unless root starts it
	for _, setting := range s.settings {
		n.args = append(n.args, "--"+setting)
	}
	n.ask = func(ctx context.Context) (string, int, error) {
		answer, err := s.MariaDB(ctx, "select version()")
		version, _, _ := strings.Cut(answer, "-")
		return version, 0, err
	}
	return s.boot(ctx, n)
}

// MariaDB runs a statement in a MariaDB as the user who may do all, and answers its rows, with tabs between the columns.
func (s *Server) MariaDB(ctx context.Context, statement string) (string, error) {
	cmd := exec.CommandContext(ctx, mariadbClient.Name, "--no-defaults", "-N", "-B", "-h", "127.0.0.1", "-P", strconv.Itoa(port(s.Addr())), "-u", s.User, "-e", statement)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+s.Password)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("mariadb: %w: %s", err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}
