// Package client is the Go SDK of Outrigger: it finds the sidecar beside an application and gives typed access to what the
// sidecar offers. It depends on gRPC and protobuf and nothing else of the sidecar.
//
// # Finding the sidecar
//
// Dial looks in this order and takes the first place where a sidecar answers:
//
//  1. WithSocket, WithAddress and WithPort, in the order given. With any of them nothing else is tried.
//  2. The environment: OUTRIGGER_SOCKET, then OUTRIGGER_GRPC_ADDR, which "outrigger run -- CMD" sets. With either of them
//     nothing else is tried: an application that was told its sidecar never ends up at another one's. With an application id, see
//     below, a sidecar that says it belongs to another one is left alone, here and in what follows.
//  3. The application's socket, DATA_DIR/run/NAMESPACE/APP.sock, for OUTRIGGER_APP_ID (or WithApp) and
//     OUTRIGGER_APP_NAMESPACE ("default" unless set). Without an application id: the one socket in the data folder that
//     somebody listens on, if there is exactly one.
//  4. The default port, 127.0.0.1:7070.
//
// The data folder is OUTRIGGER_DATA_DIR (or WithDataDir); else /var/lib/outrigger for root; else $XDG_STATE_HOME/outrigger,
// or ~/.local/state/outrigger. When there is no sidecar the error says what was tried and why each try failed, and is
// ErrNoSidecar, so that an application may go on without one.
//
// # When the sidecar restarts
//
// A Client stays with the place it found and reconnects by itself; with an application id not to another one's sidecar that has taken the
// default port. A call made while the sidecar is away waits for it, for
// the time WithGrace sets or until its deadline; then it fails with ErrUnavailable, reason SIDECAR_UNAVAILABLE. A call that was
// under way when the sidecar went fails with reason SIDECAR_LOST: only the application can know whether to repeat it. Watches
// resume, and do not repeat what their reader has seen.
//
// # Errors
//
// Errors of calls are gRPC status errors (status.FromError works) that errors.Is also knows as ErrNotFound, ErrExists and
// the other kinds; Reason, RetryAfter and Origin tell more. Everything here is safe for concurrent use unless it says otherwise.
package client
