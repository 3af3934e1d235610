package servers

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// RedisConn is a plain connection to a Redis, for setting it up and for asking it in tests. One goroutine uses it at a time.
type RedisConn struct {
	net.Conn
	in *bufio.Reader
}

// Redis connects to a node of a Redis server, as the user who may do all. Every answer must come within a few seconds.
func (s *Server) Redis(ctx context.Context, n *Node) (*RedisConn, error) {
	user, password := s.User, s.Password
	if n.product == "redis-sentinel" {
		user = "" // those ask for none
	}
	return s.RedisAs(ctx, n, user, password)
}

// RedisAs is Redis as another user.
func (s *Server) RedisAs(ctx context.Context, n *Node, user, password string) (*RedisConn, error) {
	conn, err := dial(ctx, n.Addr)
	if err != nil {
		return nil, err
	}
	if s.CA != "" {
		config, err := s.TLS()
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		conn = tls.Client(conn, config)
	}
	c := &RedisConn{Conn: conn, in: bufio.NewReader(conn)}
	if user != "" {
		if _, err := c.Do("AUTH", user, password); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// TLS is how clients check the server.
func (s *Server) TLS() (*tls.Config, error) {
	text, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in " + s.CA)
	}
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}, nil
}

// Do sends a command and answers what it is answered; the items of a list are joined by spaces. An error that Redis answers is
// the error.
func (c *RedisConn) Do(words ...string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(askTime)); err != nil {
		return "", err
	}
	command := fmt.Sprintf("*%d\r\n", len(words))
	for _, w := range words {
		command += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := io.WriteString(c, command); err != nil {
		return "", err
	}
	return c.read()
}

func (c *RedisConn) read() (string, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", errors.New("an empty line is no answer")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', ':':
		return rest, nil
	case '-':
		return "", errors.New(rest)
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n < 0 {
		return "", err
	}
	if kind == '$' {
		text := make([]byte, n+2)
		_, err := io.ReadFull(c.in, text)
		return string(text[:n]), err
	}
	items, failed := make([]string, n), error(nil)
	for i := range items {
		if items[i], err = c.read(); err != nil {
			failed = err
		}
	}
	return strings.Join(items, " "), failed
}
