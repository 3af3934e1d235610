package runtime_test

import "testing"

// Who looks why all calls fail finds it where the sidecar's state is.
func TestInfoTellsOfTheMissingCertificate(t *testing.T) {
	s := start(t, "mesh: {registry: '', tls: {mode: strict, certificate: tls.crt, key: tls.key, ca: ca.crt}}\n")
	s.shows(t, "/info", `"tls_error": "no certificate: mesh.tls.certificate: open `+s.dir+`/tls.crt: no such file or directory; mesh.tls.key: open `)
}
