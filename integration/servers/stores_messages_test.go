package servers

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// natsStore keeps keys as subjects of a stream, by the text protocol and the JSON that JetStream is asked with.
func natsStore(t *testing.T, s *Server) store {
	type connection struct {
		io.Writer
		in *bufio.Reader
	}
	// connected runs f on a connection that has been let in; its errors are lines that start with -ERR.
	connected := func(ctx context.Context, user, password string, f func(connection) (string, error)) (string, error) {
		conn, err := dial(ctx, s.Addr())
		if err != nil {
			return "", err
		}
		defer conn.Close()
		fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"user\":%q,\"pass\":%q}\r\nPING\r\n", user, password)
		c := connection{conn, bufio.NewReader(conn)}
		for {
			line, err := c.in.ReadString('\n')
			if err != nil || strings.HasPrefix(line, "-ERR") {
				return "", errors.Join(err, errors.New(line))
			}
			if line == "PONG\r\n" {
				return f(c)
			}
		}
	}
	// request sends a message and answers what comes to its inbox.
	request := func(user, password, subject, body string) func(context.Context) (string, error) {
		return func(ctx context.Context) (string, error) {
			return connected(ctx, user, password, func(c connection) (string, error) {
				fmt.Fprintf(c, "SUB _INBOX.a 1\r\nPUB %s _INBOX.a %d\r\n%s\r\n", subject, len(body), body)
				line, err := c.in.ReadString('\n')
				if err != nil || !strings.HasPrefix(line, "MSG ") {
					return "", errors.Join(err, errors.New(line))
				}
				answer, err := c.in.ReadString('\n')
				if err == nil && strings.Contains(answer, `"error"`) {
					err = errors.New(answer)
				}
				return answer, err
			})
		}
	}
	ask := func(ctx context.Context, subject, body string) (string, error) {
		return request(s.User, s.Password, subject, body)(ctx)
	}
	if _, err := ask(t.Context(), "$JS.API.STREAM.CREATE.ITEMS", `{"name": "ITEMS", "subjects": ["items.>"], "storage": "file"}`); err != nil {
		t.Fatal(err)
	}
	_, err := request(s.User, "wrong", "items.a", "")(t.Context())
	refused(t, err, "Authorization Violation")
	_, err = request(s.Limited, s.LimitedPassword, "items.a", "")(t.Context())
	refused(t, err, "Permissions Violation")
	return store{
		put: func(ctx context.Context, key, value string) error {
			_, err := ask(ctx, "items."+key, value)
			return err
		},
		get: func(ctx context.Context, key string) (string, error) {
			text, err := ask(ctx, "$JS.API.STREAM.MSG.GET.ITEMS", fmt.Sprintf(`{"last_by_subj": "items.%s"}`, key))
			if err != nil {
				return "", err
			}
			out := struct{ Message struct{ Data []byte } }{}
			err = json.Unmarshal([]byte(text), &out)
			return string(out.Message.Data), err
		},
	}
}

// rabbitStore keeps keys as durable queues, each with a persistent message, by the management.
func rabbitStore(t *testing.T, s *Server) store {
	api := func(ctx context.Context, method, path, body string, out any) error {
		return s.rabbitAPI(ctx, s.Nodes[0], method, path, body, func(answer []byte) error {
			if out == nil {
				return nil
			}
			return json.Unmarshal(answer, out)
		})
	}
	wrong := &Server{Nodes: s.Nodes, User: s.User, Password: "wrong"}
	refused(t, wrong.rabbitAPI(t.Context(), s.Nodes[0], http.MethodGet, "/api/overview", "", nil), "401")
	return store{
		put: func(ctx context.Context, key, value string) error {
			if err := api(ctx, http.MethodPut, "/api/queues/%2F/"+key, `{"durable": true}`, nil); err != nil {
				return err
			}
			body := fmt.Sprintf(`{"properties": {"delivery_mode": 2}, "routing_key": %q, "payload": %q, "payload_encoding": "base64"}`,
				key, base64.StdEncoding.EncodeToString([]byte(value)))
			out := struct{ Routed bool }{}
			if err := api(ctx, http.MethodPost, "/api/exchanges/%2F/amq.default/publish", body, &out); err != nil || !out.Routed {
				return errors.Join(err, fmt.Errorf("routed: %v", out.Routed))
			}
			return nil
		},
		get: func(ctx context.Context, key string) (string, error) {
			out := []struct{ Payload string }{}
			const ask = `{"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}`
			if err := api(ctx, http.MethodPost, "/api/queues/%2F/"+key+"/get", ask, &out); err != nil || len(out) != 1 {
				return "", errors.Join(err, fmt.Errorf("%d messages", len(out)))
			}
			return out[0].Payload, nil
		},
	}
}

// dtmStore runs a saga for each key, whose one step is called back with the value; what the server knows of the saga is its
// state.
func dtmStore(t *testing.T, s *Server) store {
	steps := make(chan string, 10)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		steps <- string(body)
		io.WriteString(w, `{"dtm_result": "SUCCESS"}`)
	}))
	t.Cleanup(app.Close)
	at := "http://" + s.Addr() + "/api/dtmsvr/"
	return store{
		put: func(ctx context.Context, key, value string) error {
			saga := fmt.Sprintf(`{"gid": %q, "trans_type": "saga", "steps": [{"action": "%s/do", "compensate": "%s/undo"}], "payloads": ["{\"value\": \"%s\"}"]}`,
				key, app.URL, app.URL, value)
			if err := post(ctx, at+"submit", "application/json", saga, nil); err != nil {
				return err
			}
			select {
			case got := <-steps:
				if !strings.Contains(got, value) {
					return fmt.Errorf("the step is called with %s", got)
				}
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		get: func(ctx context.Context, key string) (string, error) {
			out := struct {
				Transaction struct{ Status string }
				Branches    []struct {
					BinData []byte `json:"bin_data"`
					Status  string
				}
			}{}
			if err := getJSON(ctx, at+"query?gid="+key, &out); err != nil {
				return "", err
			}
			if out.Transaction.Status != "succeed" || len(out.Branches) == 0 {
				return "", fmt.Errorf("%+v", out)
			}
			payload := struct{ Value string }{}
			err := json.Unmarshal(out.Branches[0].BinData, &payload)
			return payload.Value, err
		},
	}
}
