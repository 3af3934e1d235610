package harness

import (
	"io"
	"net/http"
)

// Page is what a page of the sidecar's admin says, such as /metrics.
func (s *Sidecar) Page(path string) string {
	s.t.Helper()
	res, err := http.Get("http://" + s.Admin + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}
