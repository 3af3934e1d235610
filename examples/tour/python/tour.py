"""Nine things an application does with its sidecar, over stubs made from the proto files.

It is started by the sidecar: outrigger run -app-id tour -app-port 8085 -app-protocol grpc -- python3 tour.py 8085
"""

import os
import queue
import sys
import time
from concurrent import futures

import grpc
from google.protobuf import duration_pb2, timestamp_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import tour_pb2
import tour_pb2_grpc
from outrigger.cache.v1 import cache_pb2, cache_pb2_grpc
from outrigger.common.v1 import common_pb2
from outrigger.config.v1 import config_pb2, config_pb2_grpc
from outrigger.lock.v1 import lock_pb2, lock_pb2_grpc
from outrigger.pubsub.v1 import pubsub_pb2, pubsub_pb2_grpc
from outrigger.schedule.v1 import schedule_pb2, schedule_pb2_grpc
from outrigger.state.v1 import state_pb2, state_pb2_grpc
from outrigger.transaction.v1 import transaction_pb2, transaction_pb2_grpc

LIMIT = 20  # seconds that a call may take
RUN = f"tour-python-{time.time_ns()}"  # so that the tour can be taken again


def refused(call, request):
    """The reason for which a call is refused."""
    try:
        call(request, timeout=LIMIT)
    except grpc.RpcError as e:
        info = error_details_pb2.ErrorInfo()
        rpc_status.from_call(e).details[0].Unpack(info)
        return info.reason
    raise AssertionError("it was not refused")


class Greeter(tour_pb2_grpc.GreeterServicer):
    def __init__(self, channel):
        self.callers = queue.Queue()
        self.states = state_pb2_grpc.StateStub(channel)

    def Greet(self, request, context):
        metadata = dict(context.invocation_metadata())
        if "tx-gid" in metadata:
            self.branch(request.name, metadata, context)
        else:
            self.callers.put(request.name)
        return tour_pb2.GreetResponse(text=f"hello, {request.name}")

    def branch(self, name, metadata, context):
        """Is a branch of a saga: what it writes is written once, whatever call is repeated or late. Two cannot be done."""
        op = metadata["tx-op"]
        if name == "two" and op == "action":
            context.set_trailing_metadata([("tx-reason", "TX_BRANCH_FAILED")])
            context.abort(grpc.StatusCode.ABORTED, "not today")
        barrier = state_pb2.Barrier(gid=metadata["tx-gid"], branch=metadata["tx-branch"], op=op)
        write = state_pb2.Operation(set=state_pb2.Operation.Set(key=f"{RUN}-{name}", value=op.encode()))
        self.states.Transact(state_pb2.TransactRequest(barrier=barrier, operations=[write]), timeout=LIMIT)


def serve(port, channel):
    greeter = Greeter(channel)
    server = grpc.server(futures.ThreadPoolExecutor())
    tour_pb2_grpc.add_GreeterServicer_to_server(greeter, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return greeter, server


def call(channel):
    """Calls an application by its name. Until it is known, which takes a moment after its start, calls are refused."""
    stub = tour_pb2_grpc.GreeterStub(channel)
    for _ in range(100):
        try:
            request = tour_pb2.GreetRequest(name="sidecar")
            return stub.Greet(request, metadata=[("outrigger-service", "tour")], timeout=LIMIT).text
        except grpc.RpcError as e:
            if e.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(0.1)
    raise AssertionError("the application was not found")


def cache(channel):
    stub = cache_pb2_grpc.CacheStub(channel)
    stub.Set(cache_pb2.SetRequest(key=RUN, value=b"41", ttl=duration_pb2.Duration(seconds=60)), timeout=LIMIT)
    return stub.Increment(cache_pb2.IncrementRequest(key=RUN, delta=1), timeout=LIMIT).value


def state(channel):
    """Changes a value only if nobody else has meanwhile."""
    stub = state_pb2_grpc.StateStub(channel)
    old = stub.Set(state_pb2.SetRequest(key=RUN, value=b"1"), timeout=LIMIT).version
    change = state_pb2.SetRequest(key=RUN, value=b"2", condition=state_pb2.Condition(if_version=old))
    stub.Set(change, timeout=LIMIT)
    return refused(stub.Set, change)


def config(channel):
    """Sees a setting change."""
    stub = config_pb2_grpc.ConfigStub(channel)
    stub.Set(config_pb2.SetRequest(key=RUN, value=b"hello"), timeout=LIMIT)
    watch = stub.Watch(config_pb2.WatchRequest(keys=[RUN]), timeout=LIMIT)
    seen = []
    for message in watch:
        seen += [change.item.value.decode() for change in message.changes]
        if len(seen) == 1:
            stub.Set(config_pb2.SetRequest(key=RUN, value=b"servus"), timeout=LIMIT)
        if seen[-1] == "servus":
            break
    watch.cancel()
    return ", then ".join(seen)


def requests(*first):
    """What is sent on a stream: put adds to it, None ends it."""
    line = queue.Queue()
    for message in first:
        line.put(message)
    return line, iter(line.get, None)


def events(channel):
    """Subscribes, publishes, and acknowledges each event once it is handled."""
    stub = pubsub_pb2_grpc.PubSubStub(channel)
    start = pubsub_pb2.SubscribeRequest.Start(topic=RUN, credit=common_pb2.Credit(messages=10))
    line, sent = requests(pubsub_pb2.SubscribeRequest(start=start))
    seen = []
    for message in stub.Subscribe(sent, timeout=LIMIT):
        if message.HasField("started"):
            many = [pubsub_pb2.PublishRequest(data=text.encode(), ordering_key="tour") for text in ("1", "2", "3")]
            stub.PublishMany(pubsub_pb2.PublishManyRequest(topic=RUN, events=many), timeout=LIMIT)
        elif message.HasField("delivery"):
            seen.append(message.delivery.event.data.decode())
            line.put(pubsub_pb2.SubscribeRequest(ack=common_pb2.Ack(delivery_ids=[message.delivery.delivery_id])))
            if len(seen) == 3:
                line.put(None)
    return " ".join(seen)


def lock(channel):
    """Writes under a lock; who held it before is refused."""
    locks, states = lock_pb2_grpc.LockStub(channel), state_pb2_grpc.StateStub(channel)
    tokens = []
    for _ in range(2):
        take = lock_pb2.LockRequest(name=RUN, lease=duration_pb2.Duration(seconds=10))
        tokens.append(locks.Lock(take, timeout=LIMIT).token)
        fence = state_pb2.Fence(name=RUN, token=tokens[-1])
        states.Set(state_pb2.SetRequest(key=RUN, value=b"mine", fence=fence), timeout=LIMIT)
        locks.Unlock(lock_pb2.UnlockRequest(name=RUN, token=tokens[-1]), timeout=LIMIT)
    old = state_pb2.Fence(name=RUN, token=tokens[0])
    return refused(states.Set, state_pb2.SetRequest(key=RUN, value=b"late", fence=old))


def schedule(channel):
    """Has a job fire, and settles the firing."""
    stub = schedule_pb2_grpc.ScheduleStub(channel)
    now = timestamp_pb2.Timestamp()
    now.GetCurrentTime()
    job = schedule_pb2.Job(name=RUN, trigger=schedule_pb2.Trigger(at=now), data=b"wake-up")
    stub.Create(schedule_pb2.CreateRequest(job=job), timeout=LIMIT)
    start = schedule_pb2.WatchRequest.Start(prefix=RUN, credit=common_pb2.Credit(messages=1))
    line, sent = requests(schedule_pb2.WatchRequest(start=start))
    seen = ""
    for message in stub.Watch(sent, timeout=LIMIT):
        if message.HasField("delivery"):
            seen = message.delivery.data.decode()
            line.put(schedule_pb2.WatchRequest(ack=common_pb2.Ack(delivery_ids=[message.delivery.delivery_id])))
            line.put(None)
    return seen


def transaction(channel):
    """Runs a saga of two steps, each a call of the application itself. The second fails, so that the first is taken back."""
    stub = transaction_pb2_grpc.TransactionStub(channel)

    def to(name):
        data = tour_pb2.GreetRequest(name=name).SerializeToString()
        return transaction_pb2.Call(service="tour", method="examples.tour.v1.Greeter/Greet", data=data)

    steps = [transaction_pb2.Step(id=name, action=to(name), compensation=to(name)) for name in ("one", "two")]
    status = stub.RunSaga(transaction_pb2.RunSagaRequest(gid=RUN, steps=steps, wait=True), timeout=LIMIT).status
    last = state_pb2_grpc.StateStub(channel).Get(state_pb2.GetRequest(key=RUN + "-one"), timeout=LIMIT)
    state = transaction_pb2.State.Name(status.state).removeprefix("STATE_")
    return f"{state} at {status.failed_branch}; last of one: {last.value.decode()}"


def main(port):
    with grpc.insecure_channel(os.environ.get("OUTRIGGER_GRPC_ADDR", "127.0.0.1:7070")) as channel:
        greeter, server = serve(port, channel)
        print("1 call a service:", call(channel), flush=True)
        print("2 be called: by", greeter.callers.get(timeout=LIMIT), flush=True)
        print("3 cache:", cache(channel), flush=True)
        print("4 state: the old version is refused,", state(channel), flush=True)
        print("5 config:", config(channel), flush=True)
        print("6 events:", events(channel), flush=True)
        print("7 lock: the old token is refused,", lock(channel), flush=True)
        print("8 schedule:", schedule(channel), "fired", flush=True)
        print("9 transaction:", transaction(channel), flush=True)
        server.stop(None)
    print("tour: 9 steps done")


if __name__ == "__main__":
    main(*sys.argv[1:])
