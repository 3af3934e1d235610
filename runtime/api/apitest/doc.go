// Package apitest tells one story of behaviour through every front-end of the API: gRPC over the unix socket and over TCP,
// on the frame engine and on grpc-go, and HTTP/JSON. It has tests only.
package apitest
