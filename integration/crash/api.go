package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// api is that of an application's sidecars, as JSON over HTTP: each call is made at the next of them. Safe for concurrent use.
type api struct {
	addrs []string
	next  atomic.Uint32
}

func newAPI(addrs ...string) *api { return &api{addrs: addrs} }

var client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

type object = map[string]any

// failure is an error that the sidecar has answered.
type failure struct{ Code, Message string }

func (f *failure) Error() string { return f.Code + ": " + f.Message }

func (a *api) call(method string, in object) (out object, err error) {
	addr := a.addrs[int(a.next.Add(1))%len(a.addrs)]
	return out, post("http://"+addr+"/outrigger."+method, in, &out)
}

func post(url string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	res, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		f := &failure{Code: res.Status}
		_ = json.Unmarshal(text, f)
		return f
	}
	return json.Unmarshal(text, out)
}

func code(err error) string {
	if f := (*failure)(nil); errors.As(err, &f) {
		return f.Code
	}
	return ""
}

// eventually does something until it goes well, for a while.
func eventually(within time.Duration, do func() error) (err error) {
	end := time.Now().Add(within)
	for pause := 20 * time.Millisecond; ; pause = min(pause*3/2, longPause) {
		if err = do(); err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}

const longPause = 500 * time.Millisecond

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func decode(value any) string {
	s, _ := value.(string)
	b, _ := base64.StdEncoding.DecodeString(s)
	return string(b)
}

func text(o object, k string) string { s, _ := o[k].(string); return s }
