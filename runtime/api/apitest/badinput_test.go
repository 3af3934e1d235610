package apitest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestBadKeys(t *testing.T) {
	each(t, func(t *testing.T, f front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c, cfg := within(t), cachev1.NewCacheClient(cc), configv1.NewConfigClient(cc)
		for what, key := range map[string]string{"empty": "", "1 MiB": strings.Repeat("k", 1<<20), "a NUL": "a\x00b"} {
			_, err := c.Get(ctx, &cachev1.GetRequest{Key: key})
			refused(t, "get: "+what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
			_, err = c.Set(ctx, &cachev1.SetRequest{Key: key})
			refused(t, "set: "+what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
			_, err = c.Get(ctx, &cachev1.GetRequest{Component: "counted", Key: key})
			refused(t, "get where it may wait: "+what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
			_, err = cfg.Get(ctx, &configv1.GetRequest{Key: key})
			refused(t, "config: "+what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
		refused(t, "invalid UTF-8", rawGet(ctx, f, cc, "a\xff"), codes.InvalidArgument, "MALFORMED_REQUEST")
	})
}

// rawGet asks for a key that generated clients refuse to send.
func rawGet(ctx context.Context, f front, cc grpc.ClientConnInterface, key string) error {
	if f.json {
		return cc.(*jsonConn).raw(ctx, cachev1.Cache_Get_FullMethodName, []byte(`{"key":"`+key+`"}`), &cachev1.GetResponse{})
	}
	message := append([]byte{2<<3 | 2, byte(len(key))}, key...)
	return cc.Invoke(ctx, cachev1.Cache_Get_FullMethodName, message, new([]byte), grpc.ForceCodec(bytesCodec{}))
}

// bytesCodec sends bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (bytesCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = bytes.Clone(b); return nil }
func (bytesCodec) Name() string                    { return "proto" }

func TestGarbageInsteadOfARequest(t *testing.T) {
	each(t, func(t *testing.T, f front, _ *sidecar, cc grpc.ClientConnInterface) {
		var err error
		if f.json {
			err = cc.(*jsonConn).raw(within(t), cachev1.Cache_Get_FullMethodName, []byte(`{"key":`), &cachev1.GetResponse{})
		} else {
			err = cc.Invoke(within(t), cachev1.Cache_Get_FullMethodName, []byte{0xff}, new([]byte), grpc.ForceCodec(bytesCodec{}))
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Error(err)
		}
	})
}

func TestBadTimesToLive(t *testing.T) {
	each(t, func(t *testing.T, f front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), cachev1.NewCacheClient(cc)
		bad := map[string]*durationpb.Duration{
			"zero": {}, "negative": durationpb.New(-time.Second), "less than a millisecond": durationpb.New(time.Microsecond), "longer than there is time": {Seconds: 315576000000},
			"of Go's limit": {Seconds: math.MaxInt64 / int64(time.Second)},
		}
		if !f.json { // JSON cannot write these
			bad["overflowing"], bad["of two signs"] = &durationpb.Duration{Seconds: math.MaxInt64}, &durationpb.Duration{Seconds: 1, Nanos: -1}
		}
		for what, ttl := range bad {
			_, err := c.Set(ctx, &cachev1.SetRequest{Key: "k", Ttl: ttl})
			refused(t, "set: "+what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
			_, err = c.Touch(ctx, &cachev1.TouchRequest{Key: "k", Ttl: ttl})
			refused(t, "touch: "+what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
			_, err = c.Increment(ctx, &cachev1.IncrementRequest{Key: "k", Ttl: ttl})
			refused(t, "increment: "+what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
		if f.json {
			err := cc.(*jsonConn).raw(ctx, cachev1.Cache_Set_FullMethodName, []byte(`{"key":"k","ttl":"9223372036854775807s"}`), &cachev1.SetResponse{})
			if status.Code(err) != codes.InvalidArgument {
				t.Error("overflowing:", err)
			}
		}
		if there, err := c.Exists(ctx, &cachev1.ExistsRequest{Key: "k"}); err != nil || there.Exists {
			t.Error("one of them was set", err)
		}
	})
}

func TestMessagesThatAreTooLarge(t *testing.T) {
	each(t, func(t *testing.T, f front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), cachev1.NewCacheClient(cc)
		hop := "api"
		if f.json {
			hop = "http-api"
		}
		check := func(what string, err error, hop string) {
			t.Helper()
			refused(t, what, err, codes.ResourceExhausted, "MESSAGE_TOO_LARGE")
			if _, md := reasonOf(err); md["hop"] != hop || md["limit"] != "max_message_bytes" || md["max"] != fmt.Sprint(4<<20) {
				t.Errorf("%s: %v", what, md)
			}
			if text := status.Convert(err).Message(); !strings.Contains(text, "max_message_bytes") || !strings.Contains(text, "hop "+hop) {
				t.Errorf("%s: %q", what, text)
			}
		}
		_, err := c.Set(ctx, &cachev1.SetRequest{Key: "k", Value: make([]byte, 32<<20)})
		check("a value of 32 MiB", err, hop)
		_, err = c.Set(ctx, &cachev1.SetRequest{Key: "k", Value: make([]byte, 4<<20)})
		check("a message just over the limit", err, hop)
		_, err = c.Get(ctx, &cachev1.GetRequest{Component: "counted", Key: "big"})
		check("an answer of 5 MiB", err, "api")
		if f.json {
			err = cc.(*jsonConn).compressed(ctx, cachev1.Cache_Set_FullMethodName, []byte(`{"key":"k","value":"`+base64.StdEncoding.EncodeToString(make([]byte, 9<<20))+`"}`))
		} else {
			_, err = c.Set(ctx, &cachev1.SetRequest{Key: "k", Value: make([]byte, 16<<20)}, grpc.UseCompressor(gzip.Name))
		}
		check("a small body that grows", err, hop)
		if f.json {
			return
		}
		w, err := configv1.NewConfigClient(cc).Watch(ctx, &configv1.WatchRequest{Keys: []string{strings.Repeat("k", 5<<20)}})
		if err == nil {
			_, err = w.Recv()
		}
		check("a stream's request", err, hop)
	})
}

func TestUnknownComponent(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		_, err := cachev1.NewCacheClient(cc).Get(within(t), &cachev1.GetRequest{Component: "sessionz", Key: "k"})
		refused(t, "a component that is not configured", err, codes.NotFound, "COMPONENT_NOT_FOUND")
		if text := status.Convert(err).Message(); !strings.Contains(text, "default") || !strings.Contains(text, "counted") {
			t.Errorf("it does not say which there are: %q", text)
		}
	})
}
