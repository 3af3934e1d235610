"""The Echo service. It prints "ready VERSION" once it serves, and "canceled" for each call that ended before its answer."""

import sys
import time
from concurrent import futures

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

import echo_pb2
import echo_pb2_grpc


class Watch:
    """Tells when a call ends before its handler is done with it."""

    def __init__(self, context):
        self.done = False
        if not context.add_callback(self._ended):
            self._ended()

    def _ended(self):
        if not self.done:
            print("canceled", flush=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.done = kind is not GeneratorExit  # a generator that nobody asks any more


def wait(context, ms):
    end = time.monotonic() + ms / 1000
    while context.is_active() and time.monotonic() < end:
        time.sleep(0.01)
    return context.is_active()


def fail(context, message):
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason="ECHO", domain="echo.test", metadata={"k": "v"}))
    status = status_pb2.Status(code=message.code, message=message.text, details=[info])
    context.abort_with_status(rpc_status.to_status(status))


class Echo(echo_pb2_grpc.EchoServicer):
    def Unary(self, message, context):
        watch = Watch(context)
        if not wait(context, message.wait_ms):
            return message
        with watch:
            if message.code:
                fail(context, message)
            context.send_initial_metadata((("echo-header", "h"), ("echo-bin", b"\x00\x01\xff")))
            back = [("back-" + m.key, m.value) for m in context.invocation_metadata() if m.key in ("x-echo", "x-echo-bin")]
            context.set_trailing_metadata((("echo-trailer", "t"), *back))
            message.instance = "python"
            return message

    def Collect(self, messages, context):
        with Watch(context):
            answer = echo_pb2.Message(instance="python")
            for message in messages:
                answer.times += 1
                answer.text += message.text
            return answer

    def Repeat(self, message, context):
        watch = Watch(context)
        for i in range(message.times):
            yield echo_pb2.Message(text=message.text, data=message.data, times=i, instance="python")
            if not wait(context, message.wait_ms):
                return
        with watch:
            if message.code:
                fail(context, message)

    def Chat(self, messages, context):
        with Watch(context):
            for message in messages:
                message.instance = "python"
                yield message


def run(port, max_age_ms):
    options = {"grpc.max_metadata_size": 1 << 16, "grpc.keepalive_time_ms": 1500, "grpc.keepalive_permit_without_calls": 1}
    options["grpc.keepalive_timeout_ms"] = options["grpc.http2.ping_timeout_ms"] = 3000
    if int(max_age_ms):
        options["grpc.max_connection_age_ms"] = int(max_age_ms)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=options.items())
    echo_pb2_grpc.add_EchoServicer_to_server(Echo(), server)
    server.add_insecure_port("127.0.0.1:" + port)
    server.start()
    print(f"ready grpcio {grpc.__version__} on Python {sys.version.split()[0]}", flush=True)
    server.wait_for_termination()
