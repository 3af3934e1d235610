// Package mosn holds the codecs of Bolt and Dubbo against MOSN's, as its tests. It is the only package that may import mosn.io, and the sidecar
// does not import it: docs/adr says why.
package mosn
