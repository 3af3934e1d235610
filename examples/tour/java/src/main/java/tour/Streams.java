package tour;

import com.google.protobuf.Timestamp;
import io.grpc.ManagedChannel;
import io.grpc.stub.StreamObserver;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import mesh.outrigger.common.v1.Ack;
import mesh.outrigger.common.v1.Credit;
import mesh.outrigger.config.v1.ConfigGrpc;
import mesh.outrigger.config.v1.WatchResponse;
import mesh.outrigger.pubsub.v1.PubSubGrpc;
import mesh.outrigger.pubsub.v1.PublishManyRequest;
import mesh.outrigger.pubsub.v1.PublishRequest;
import mesh.outrigger.pubsub.v1.SubscribeRequest;
import mesh.outrigger.pubsub.v1.SubscribeResponse;
import mesh.outrigger.schedule.v1.CreateRequest;
import mesh.outrigger.schedule.v1.Job;
import mesh.outrigger.schedule.v1.ScheduleGrpc;
import mesh.outrigger.schedule.v1.Trigger;
import mesh.outrigger.schedule.v1.WatchRequest;

/** The steps that are streams. */
final class Streams {
  private final ManagedChannel channel;

  Streams(ManagedChannel channel) {
    this.channel = channel;
  }

  /** Sees a setting change. */
  String config() {
    ConfigGrpc.ConfigBlockingStub stub = ConfigGrpc.newBlockingStub(channel).withDeadlineAfter(Calls.LIMIT, TimeUnit.SECONDS);
    setting(stub, "hello");
    List<String> seen = new ArrayList<>();
    Iterator<WatchResponse> watch =
        stub.watch(mesh.outrigger.config.v1.WatchRequest.newBuilder().addKeys(Calls.RUN).build());
    while (seen.isEmpty() || !seen.get(seen.size() - 1).equals("servus")) {
      watch.next().getChangesList().forEach(change -> seen.add(change.getItem().getValue().toStringUtf8()));
      if (seen.size() == 1) {
        setting(stub, "servus");
      }
    }
    return String.join(", then ", seen);
  }

  private static void setting(ConfigGrpc.ConfigBlockingStub stub, String value) {
    stub.set(
        mesh.outrigger.config.v1.SetRequest.newBuilder().setKey(Calls.RUN).setValue(Calls.bytes(value)).build());
  }

  /** Subscribes, publishes, and acknowledges each event once it is handled. */
  String events() throws InterruptedException {
    PubSubGrpc.PubSubStub stub = PubSubGrpc.newStub(channel).withDeadlineAfter(Calls.LIMIT, TimeUnit.SECONDS);
    Messages<SubscribeResponse> messages = new Messages<>();
    StreamObserver<SubscribeRequest> stream = stub.subscribe(messages);
    SubscribeRequest.Start start =
        SubscribeRequest.Start.newBuilder().setTopic(Calls.RUN).setCredit(Credit.newBuilder().setMessages(10)).build();
    stream.onNext(SubscribeRequest.newBuilder().setStart(start).build());
    List<String> seen = new ArrayList<>();
    while (seen.size() < 3) {
      SubscribeResponse message = messages.next();
      if (message.hasStarted()) {
        publish();
      } else if (message.hasDelivery()) {
        seen.add(message.getDelivery().getEvent().getData().toStringUtf8());
        Ack ack = Ack.newBuilder().addDeliveryIds(message.getDelivery().getDeliveryId()).build();
        stream.onNext(SubscribeRequest.newBuilder().setAck(ack).build());
      }
    }
    stream.onCompleted();
    messages.end();
    return String.join(" ", seen);
  }

  private void publish() {
    PublishManyRequest.Builder many = PublishManyRequest.newBuilder().setTopic(Calls.RUN);
    for (String text : List.of("1", "2", "3")) {
      many.addEvents(PublishRequest.newBuilder().setData(Calls.bytes(text)).setOrderingKey("tour"));
    }
    PubSubGrpc.newBlockingStub(channel).withDeadlineAfter(Calls.LIMIT, TimeUnit.SECONDS).publishMany(many.build());
  }

  /** Has a job fire, and settles the firing. */
  String schedule() throws InterruptedException {
    Timestamp now = Timestamp.newBuilder().setSeconds(System.currentTimeMillis() / 1000).build();
    Job job =
        Job.newBuilder().setName(Calls.RUN).setTrigger(Trigger.newBuilder().setAt(now)).setData(Calls.bytes("wake-up")).build();
    ScheduleGrpc.newBlockingStub(channel)
        .withDeadlineAfter(Calls.LIMIT, TimeUnit.SECONDS)
        .create(CreateRequest.newBuilder().setJob(job).build());
    Messages<mesh.outrigger.schedule.v1.WatchResponse> messages = new Messages<>();
    StreamObserver<WatchRequest> stream =
        ScheduleGrpc.newStub(channel).withDeadlineAfter(Calls.LIMIT, TimeUnit.SECONDS).watch(messages);
    WatchRequest.Start start =
        WatchRequest.Start.newBuilder().setPrefix(Calls.RUN).setCredit(Credit.newBuilder().setMessages(1)).build();
    stream.onNext(WatchRequest.newBuilder().setStart(start).build());
    mesh.outrigger.schedule.v1.WatchResponse message = messages.next();
    while (!message.hasDelivery()) {
      message = messages.next();
    }
    Ack ack = Ack.newBuilder().addDeliveryIds(message.getDelivery().getDeliveryId()).build();
    stream.onNext(WatchRequest.newBuilder().setAck(ack).build());
    stream.onCompleted();
    messages.end();
    return message.getDelivery().getData().toStringUtf8();
  }

  /** Messages in the order in which they came; the end of the stream is one, too. */
  private static final class Messages<T> implements StreamObserver<T> {
    private final BlockingQueue<Function<String, T>> queue = new LinkedBlockingQueue<>();

    T next() throws InterruptedException {
      return poll().apply("the stream ended early");
    }

    void end() throws InterruptedException {
      while (poll().apply(null) != null) {
        // what was still under way
      }
    }

    private Function<String, T> poll() throws InterruptedException {
      Function<String, T> message = queue.poll(Calls.LIMIT, TimeUnit.SECONDS);
      if (message == null) {
        throw new IllegalStateException("nothing came");
      }
      return message;
    }

    @Override
    public void onNext(T message) {
      queue.add(unused -> message);
    }

    @Override
    public void onError(Throwable e) {
      queue.add(
          unused -> {
            throw new IllegalStateException(e);
          });
    }

    @Override
    public void onCompleted() {
      queue.add(
          early -> {
            if (early != null) {
              throw new IllegalStateException(early);
            }
            return null;
          });
    }
  }
}
