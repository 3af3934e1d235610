package apitest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const subscribePath = "/outrigger.pubsub.v1.PubSub/Subscribe"

// line is a message of a subscription as HTTP shows it.
type line struct {
	Started  *struct{} `json:"started"`
	Delivery *struct {
		DeliveryID string `json:"deliveryId"`
		Event      struct{ ID string }
		Attempt    int
	} `json:"delivery"`
	Error *plainError `json:"error"`
}

// conversation is a stream in both directions over HTTP/1.1.
type conversation struct {
	t     *testing.T
	in    *io.PipeWriter
	lines *bufio.Scanner
	resp  *nethttp.Response
}

func converse(t *testing.T, s *sidecar, path, first string, how ...string) *conversation {
	t.Helper()
	body, in := io.Pipe()
	r, err := nethttp.NewRequestWithContext(within(t), nethttp.MethodPost, "http://"+s.http+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for _, h := range how {
		if ms, ok := strings.CutPrefix(h, "for ms "); ok {
			r.Header.Set("Connect-Timeout-Ms", ms)
		}
	}
	go func() {
		io.WriteString(in, first)
		if slices.Contains(how, "end") {
			in.Close()
		}
	}()
	client := &nethttp.Client{Transport: &nethttp.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); resp.Body.Close() })
	return &conversation{t, in, bufio.NewScanner(resp.Body), resp}
}

// refusal is the whole answer.
func (c *conversation) refusal(code int) (e plainError) {
	c.t.Helper()
	text, err := io.ReadAll(c.resp.Body)
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil || c.resp.StatusCode != code {
		c.t.Errorf("%s, %v: %s", c.resp.Status, err, text)
	}
	return e
}

func (c *conversation) next() (l line) {
	c.t.Helper()
	if !c.lines.Scan() {
		c.t.Fatal("the answer ended: ", c.lines.Err())
	}
	if err := json.Unmarshal(c.lines.Bytes(), &l); err != nil {
		c.t.Fatalf("%v: %s", err, c.lines.Text())
	}
	return l
}

func (c *conversation) say(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, text); err != nil {
		c.t.Fatal(err)
	}
}

// TestSubscriptionOverHTTP: an event is delivered, settled, and the next comes for the credit that is given then.
func TestSubscriptionOverHTTP(t *testing.T) {
	s := start(t)
	c := converse(t, s, subscribePath, `{"start": {"topic": "t", "credit": {"messages": 1}}}`)
	if l := c.next(); l.Started == nil || c.resp.StatusCode != nethttp.StatusOK || c.resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatal("not started:", c.lines.Text(), c.resp.Status, c.resp.Header)
	}
	for i := range 3 {
		publishPlain(t, s, fmt.Sprint("e", i))
	}
	for i := range 3 {
		l := c.next()
		if l.Delivery == nil || l.Delivery.Event.ID != fmt.Sprint("e", i) || l.Delivery.Attempt != 1 {
			t.Fatal("delivery", i, c.lines.Text())
		}
		c.say(fmt.Sprintf(`{"ack": {"deliveryIds": [%q]}} {"credit":`, l.Delivery.DeliveryID)) // several on a line, and one over two
		c.say("\n{\"messages\": 1}}\n")
	}
	c.in.Close() // half closed: what is settled is settled, and the stream ends in order
	for c.lines.Scan() {
		t.Error("more came:", c.lines.Text())
	}
	if err := c.lines.Err(); err != nil {
		t.Error(err)
	}
}

func TestConversationsThatGoWrong(t *testing.T) {
	const begin = `{"start": {"topic": "t", "credit": {"messages": 1}}}`
	s := start(t)
	for name, c := range map[string]struct {
		more         string
		code, reason string
	}{
		"no JSON":          {`{"credit"; 1}`, "invalid_argument", "MALFORMED_REQUEST"},
		"a misspelt field": {`{"kredit": {"messages": 1}}`, "invalid_argument", "MALFORMED_REQUEST"},
		"one that is cut":  {`{"credit": {"messages"`, "invalid_argument", "MALFORMED_REQUEST"},
		"too large":        {`{"ack": {"deliveryIds": ["` + strings.Repeat("x", 5<<20) + `"]}}`, "resource_exhausted", "MESSAGE_TOO_LARGE"},
		"too much text":    {strings.Repeat(" ", 9<<20), "resource_exhausted", "MESSAGE_TOO_LARGE"},
		"a second start":   {begin, "invalid_argument", ""},
	} {
		t.Run(name, func(t *testing.T) {
			talk := converse(t, s, subscribePath, begin)
			if l := talk.next(); l.Started == nil {
				t.Fatal(talk.lines.Text())
			}
			go func() { // the answer may come before all of it is written
				io.WriteString(talk.in, c.more)
				talk.in.Close()
			}()
			l := talk.next()
			if l.Error == nil || l.Error.Code != c.code || c.reason != "" && l.Error.reason() != c.reason {
				t.Error(talk.lines.Text())
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		for _, path := range []string{subscribePath, "/outrigger.lock.v1.Lock/Hold", "/outrigger.schedule.v1.Schedule/Watch"} {
			talk := converse(t, s, path, "", "end")
			if e := talk.refusal(nethttp.StatusBadRequest); e.Code != "invalid_argument" || !strings.Contains(e.Message, "start") {
				t.Error(path, e)
			}
		}
	})
	t.Run("a time limit", func(t *testing.T) {
		for range 20 { // who ends it first differs
			talk := converse(t, s, subscribePath, begin, "for ms 50")
			if l := talk.next(); l.Started == nil {
				t.Fatal(talk.lines.Text())
			}
			if l := talk.next(); l.Error == nil || l.Error.Code != "deadline_exceeded" || l.Error.reason() != "TIMEOUT" {
				t.Error(talk.lines.Text())
			}
		}
	})
	t.Run("a long time limit", func(t *testing.T) {
		for _, ms := range []string{"99999999", "100000000", "2147483647"} { // gRPC's has eight digits
			if l := converse(t, s, subscribePath, begin, "for ms "+ms).next(); l.Started == nil {
				t.Errorf("%s ms: %+v", ms, l)
			}
		}
	})
	t.Run("an error before the first line", func(t *testing.T) {
		talk := converse(t, s, subscribePath, `{"start": {"component": "none", "topic": "t"}}`)
		if e := talk.refusal(nethttp.StatusNotFound); e.Code != "not_found" || e.reason() != "COMPONENT_NOT_FOUND" {
			t.Error(e)
		}
	})
}

func publishPlain(t *testing.T, s *sidecar, id string) {
	t.Helper()
	r, err := nethttp.NewRequestWithContext(within(t), nethttp.MethodPost, "http://"+s.http+"/outrigger.pubsub.v1.PubSub/Publish",
		strings.NewReader(fmt.Sprintf(`{"topic": "t", "id": %q}`, id)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := nethttp.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != nethttp.StatusOK {
		t.Fatalf("%s: %s, %v", resp.Status, text, err)
	}
}

// TestStreamsThatAreRefusedAreToldAtOnce: their clients wait for the answer before they end the body.
func TestStreamsThatAreRefusedAreToldAtOnce(t *testing.T) {
	s := start(t)
	for name, c := range map[string]struct {
		path, header, value string
		code                int
	}{
		"no such path":    {"/none", "Content-Type", "application/json", nethttp.StatusNotFound},
		"a browser's":     {subscribePath, "Origin", "http://elsewhere.example", nethttp.StatusForbidden},
		"another content": {subscribePath, "Content-Type", "text/plain", nethttp.StatusUnsupportedMediaType},
		"compressed":      {subscribePath, "Content-Encoding", "gzip", nethttp.StatusUnsupportedMediaType},
		"no time":         {subscribePath, "Connect-Timeout-Ms", "soon", nethttp.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			body, in := io.Pipe() // nothing comes of it
			defer in.Close()
			r, err := nethttp.NewRequestWithContext(within(t), nethttp.MethodPost, "http://"+s.http+c.path, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set(c.header, c.value)
			client, begun := &nethttp.Client{Transport: &nethttp.Transport{}}, time.Now() // one that says it closes is answered anyway
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if took := time.Since(begun); resp.StatusCode != c.code || took > 4*time.Second { // the server reads on for 5 s
				t.Errorf("%s after %v", resp.Status, took)
			}
		})
	}
}

// TestTheRestOfAStreamIsNoRequest: its time is over, and what its client has begun to send comes then.
func TestTheRestOfAStreamIsNoRequest(t *testing.T) {
	s := start(t)
	nc, err := (&net.Dialer{}).DialContext(within(t), "tcp", s.http)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	first := `{"start": {"topic": "t"}}`
	fmt.Fprintf(nc, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnect-Timeout-Ms: 200\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n",
		subscribePath, len(first), first)
	in := bufio.NewReader(nc)
	resp, err := nethttp.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(nc, "1000\r\n") // a chunk of so many bytes is to come
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), "deadline_exceeded") {
		t.Fatal(err, string(text))
	}
	fmt.Fprint(nc, "POST /none HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
	if resp, err := nethttp.ReadResponse(in, nil); err == nil {
		t.Error("what the stream had still to say was answered: ", resp.Status)
	}
}
