"""The client's cases, over one channel; each prints a line of JSON."""

import json
import sys
import threading
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import echo_pb2
import echo_pb2_grpc
from outrigger.cache.v1 import cache_pb2, cache_pb2_grpc

LIMIT = 60  # seconds: of calls that should not end by it
ROUNDS = 1000
OPTIONS = {
    "grpc.max_metadata_size": 1 << 16,
    "grpc.keepalive_time_ms": 1500,
    "grpc.keepalive_timeout_ms": 3000,
    "grpc.http2.ping_timeout_ms": 3000,  # a PING that is not answered; the other is for a peer that sends nothing
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.max_pings_without_data": 0,
}


def expect(got, want):
    if got != want:
        raise AssertionError(f"got {got!r:.300}, want {want!r:.300}")


def values(metadata, key):
    return [m.value for m in metadata if m.key == key]


class Cases:
    def __init__(self, target, authority=""):
        options = [*OPTIONS.items(), ("grpc.default_authority", authority)] if authority else OPTIONS.items()
        self.to_echo = () if authority else (("outrigger-service", "echo"),)
        self.channel = grpc.insecure_channel(target, options=options)
        self.echo = echo_pb2_grpc.EchoStub(self.channel)
        self.cache = cache_pb2_grpc.CacheStub(self.channel)

    def unary(self, message, *metadata, **options):
        return self.echo.Unary.with_call(message, metadata=self.to_echo + metadata, timeout=LIMIT, **options)

    def same(self, size, **options):
        data = bytes(i * 31 & 0xFF for i in range(1024)) * (size // 1024)
        answer, _ = self.unary(echo_pb2.Message(text="hello", data=data), **options)
        expect((answer.text, answer.data == data), ("hello", True))
        return f"{len(answer.data)} bytes from {answer.instance}"

    def fails(self, call):
        try:
            call()
        except grpc.RpcError as e:
            return e
        raise AssertionError("the call did not fail")

    def unary_1k(self):
        return self.same(1 << 10)

    def unary_3m(self):
        return self.same(3 << 20)

    def metadata(self):
        sent = (("x-echo", "1"), ("x-echo", "2"), ("x-echo-bin", b"\x00\xc8\n"), ("x-echo-bin", b"\xff"))
        _, call = self.unary(echo_pb2.Message(), *sent)
        header, trailer = call.initial_metadata(), call.trailing_metadata()
        got = [values(header, "echo-header"), values(header, "echo-bin"), values(trailer, "echo-trailer")]
        expect(got, [["h"], [b"\x00\x01\xff"], ["t"]])
        expect(values(trailer, "back-x-echo"), ["1", "2"])
        expect(values(trailer, "back-x-echo-bin"), [b"\x00\xc8\n", b"\xff"])
        return "two values, binary ones too, both ways"

    def status(self):
        e = self.fails(lambda: self.unary(echo_pb2.Message(text="schön 100 % 日本", code=15)))
        expect((e.code(), e.details()), (grpc.StatusCode.DATA_LOSS, "schön 100 % 日本"))
        info = error_details_pb2.ErrorInfo()
        expect(rpc_status.from_call(e).details[0].Unpack(info), True)
        expect((info.reason, info.domain, info.metadata["k"]), ("ECHO", "echo.test", "v"))
        return f"{e.code()} {e.details()} {info.reason}"

    def origin(self):
        _, call = self.unary(echo_pb2.Message())
        failed = self.fails(lambda: self.unary(echo_pb2.Message(code=9)))
        absent = self.fails(lambda: self.echo.Unary(echo_pb2.Message(), metadata=(("outrigger-service", "nobody"),), timeout=LIMIT))
        got = [values(c.trailing_metadata(), "outrigger-origin") for c in (call, failed, absent)]
        expect(got, [["app"], ["app"], ["sidecar"]])
        return f"{got}, {absent.code()}"

    def deadline(self):
        began = time.monotonic()
        e = self.fails(lambda: self.echo.Unary(echo_pb2.Message(wait_ms=60000), metadata=self.to_echo, timeout=0.5))
        expect((e.code(), time.monotonic() - began < 20), (grpc.StatusCode.DEADLINE_EXCEEDED, True))
        return str(e.code())

    def cancel(self):
        stream = self.echo.Repeat(echo_pb2.Message(times=1 << 20, wait_ms=10), metadata=self.to_echo)
        for _ in range(3):
            next(stream)
        stream.cancel()
        e = self.fails(lambda: list(stream))
        expect(e.code(), grpc.StatusCode.CANCELLED)
        return str(e.code())

    def client_stream(self):
        answer = self.echo.Collect((echo_pb2.Message(text="x") for _ in range(ROUNDS)), metadata=self.to_echo, timeout=LIMIT)
        expect((answer.times, answer.text), (ROUNDS, "x" * ROUNDS))
        return f"{answer.times} sent"

    def server_stream(self):
        message = echo_pb2.Message(text="y", times=ROUNDS)
        got = [(m.times, m.text) for m in self.echo.Repeat(message, metadata=self.to_echo, timeout=LIMIT)]
        expect(got, [(i, "y") for i in range(ROUNDS)])
        return f"{len(got)} in order"

    def bidi(self):
        turn = threading.Semaphore(1)

        def pings():
            for i in range(ROUNDS):
                turn.acquire()
                yield echo_pb2.Message(times=i)

        got = []
        for message in self.echo.Chat(pings(), metadata=self.to_echo, timeout=LIMIT):
            got.append(message.times)
            turn.release()
        expect(got, list(range(ROUNDS)))
        return f"{len(got)} in turn"

    def concurrent(self):
        began = time.monotonic()
        sent = [echo_pb2.Message(text=str(i), wait_ms=500) for i in range(50)]
        calls = [self.echo.Unary.future(m, metadata=self.to_echo, timeout=LIMIT) for m in sent]
        expect([c.result().text for c in calls], [m.text for m in sent])
        expect(time.monotonic() - began < 20, True)  # one after the other takes 25 s
        return "50 at once"

    def large_header(self):
        value = "".join(chr(ord("a") + i * 7 % 26) for i in range(8 << 10))
        _, call = self.unary(echo_pb2.Message(), ("x-echo", value))
        expect(values(call.trailing_metadata(), "back-x-echo"), [value])
        return f"{len(value)} bytes"

    def gzip(self):
        return self.same(100 << 10, compression=grpc.Compression.Gzip)

    def idle(self):
        left = []
        self.channel.subscribe(lambda state: left.append(state.name))
        time.sleep(6)
        expect(left, ["READY"])
        self.same(1 << 10)
        expect(left, ["READY"])
        return "the same connection after 6 s"

    def cache_api(self):
        key = f"python-{time.time_ns()}"
        version = self.cache.Set(cache_pb2.SetRequest(key=key, value=b"41", content_type="text/plain"), timeout=LIMIT).version
        got = self.cache.Get(cache_pb2.GetRequest(key=key), timeout=LIMIT)
        expect((got.value, got.content_type, got.version), (b"41", "text/plain", version))
        add = cache_pb2.IncrementRequest(key=key, delta=1)
        sums = [self.cache.Increment.future(add, timeout=LIMIT) for _ in range(50)]
        expect(sorted(s.result().value for s in sums), list(range(42, 92)))
        e = self.fails(lambda: self.cache.Get(cache_pb2.GetRequest(key=key + "-absent"), timeout=LIMIT))
        info = error_details_pb2.ErrorInfo()
        rpc_status.from_call(e).details[0].Unpack(info)
        expect((e.code(), info.reason), (grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND"))
        return f"42 to 91, {info.reason}"

    def cache_large(self):
        key, value = f"python-large-{time.time_ns()}", b"0123456789abcdef" * (64 << 10)
        for how in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            self.cache.Set(cache_pb2.SetRequest(key=key, value=value), timeout=LIMIT, compression=how)
            expect(self.cache.Get(cache_pb2.GetRequest(key=key), timeout=LIMIT).value == value, True)
        return f"{len(value)} bytes, plain and compressed"


def run(target, authority=""):
    cases = Cases(target, authority)
    print(json.dumps({"case": "version", "ok": True, "seen": f"grpcio {grpc.__version__} on Python {sys.version.split()[0]}"}))
    for name, case in (
        ("unary 1 KiB", cases.unary_1k),
        ("unary 3 MiB", cases.unary_3m),
        ("metadata", cases.metadata),
        ("status", cases.status),
        ("origin", cases.origin),
        ("deadline", cases.deadline),
        ("cancel", cases.cancel),
        ("client stream", cases.client_stream),
        ("server stream", cases.server_stream),
        ("bidi", cases.bidi),
        ("concurrent", cases.concurrent),
        ("large header", cases.large_header),
        ("gzip", cases.gzip),
        *(() if authority else (("cache", cases.cache_api), ("cache large", cases.cache_large))),
        ("idle", cases.idle),
    ):
        try:
            line = {"case": name, "ok": True, "seen": case()}
        except Exception as e:  # whatever it is, it is what was seen
            line = {"case": name, "ok": False, "seen": f"{type(e).__name__}: {e}"[:1000]}
        print(json.dumps(line), flush=True)
    cases.channel.close()


def steady(target, seconds):
    """Calls without a pause, on four threads, and tells how many calls failed."""
    end, failures, counts = time.monotonic() + float(seconds), [], []
    cases = Cases(target)

    def calls():
        count = 0
        while time.monotonic() < end:
            count += 1
            try:
                cases.unary(echo_pb2.Message(text="x"), wait_for_ready=True)
            except grpc.RpcError as e:
                failures.append(f"{e.code()} {e.details()}")
        counts.append(count)

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = f"{sum(counts)} calls, {len(failures)} failed {failures[:3]}"
    print(json.dumps({"case": "restart", "ok": not failures, "seen": seen}))
    cases.channel.close()
