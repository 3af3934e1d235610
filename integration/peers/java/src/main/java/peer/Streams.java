package peer;

import integration.echo.v1.EchoGrpc;
import integration.echo.v1.EchoOuterClass.Message;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.util.Iterator;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** Streams of the Echo service behind two sidecars. */
final class Streams {
  private static final int ROUNDS = 1000;

  private final EchoGrpc.EchoBlockingStub blocking;
  private final EchoGrpc.EchoStub async;

  Streams(ManagedChannel channel) {
    var toEcho = MetadataUtils.newAttachHeadersInterceptor(Calls.to("echo"));
    blocking = EchoGrpc.newBlockingStub(channel).withInterceptors(toEcho);
    async = EchoGrpc.newStub(channel).withInterceptors(toEcho);
  }

  String cancel() throws Exception {
    try (Context.CancellableContext context = Context.current().withCancellation()) {
      Message in = Message.newBuilder().setTimes(1 << 20).setWaitMs(10).build();
      Iterator<Message> stream = context.call(() -> blocking.repeat(in));
      for (int i = 0; i < 3; i++) {
        stream.next();
      }
      context.cancel(null);
      StatusRuntimeException e = Calls.fails(() -> stream.forEachRemaining(message -> {}));
      Client.expect(e.getStatus().getCode(), Status.Code.CANCELLED);
      return e.getMessage();
    }
  }

  String clientStream() throws Exception {
    Answers answers = new Answers();
    StreamObserver<Message> out = async.withDeadlineAfter(60, TimeUnit.SECONDS).collect(answers);
    for (int i = 0; i < ROUNDS; i++) {
      out.onNext(Message.newBuilder().setText("x").build());
    }
    out.onCompleted();
    Client.expect(answers.end.get(), 1);
    Client.expect(answers.last.getTimes(), ROUNDS);
    Client.expect(answers.last.getText(), "x".repeat(ROUNDS));
    return answers.last.getTimes() + " sent";
  }

  String serverStream() {
    Message in = Message.newBuilder().setText("y").setTimes(ROUNDS).build();
    Iterator<Message> stream = blocking.withDeadlineAfter(60, TimeUnit.SECONDS).repeat(in);
    int got = 0;
    for (; stream.hasNext(); got++) {
      Message message = stream.next();
      Client.expect(message.getTimes(), got);
      Client.expect(message.getText(), "y");
    }
    Client.expect(got, ROUNDS);
    return got + " in order";
  }

  String bidi() throws Exception {
    Answers answers = new Answers();
    StreamObserver<Message> out = async.withDeadlineAfter(60, TimeUnit.SECONDS).chat(answers);
    answers.out = out;
    out.onNext(Message.getDefaultInstance());
    Client.expect(answers.end.get(), ROUNDS);
    return answers.end.get() + " in turn";
  }

  /** Counts the answers of a stream and, if it has the other direction, sends the next message for each. */
  private static final class Answers implements StreamObserver<Message> {
    final CompletableFuture<Integer> end = new CompletableFuture<>();
    volatile StreamObserver<Message> out;
    volatile Message last;
    private int count;

    @Override
    public void onNext(Message message) {
      last = message;
      if (out != null && message.getTimes() != count) {
        end.completeExceptionally(new AssertionError("answer " + message.getTimes() + " came as " + count));
      }
      count++;
      if (out != null && count < ROUNDS) {
        out.onNext(Message.newBuilder().setTimes(count).build());
      } else if (out != null) {
        out.onCompleted();
      }
    }

    @Override
    public void onError(Throwable t) {
      end.completeExceptionally(t);
    }

    @Override
    public void onCompleted() {
      end.complete(count);
    }
  }
}
