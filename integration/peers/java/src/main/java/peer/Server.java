package peer;

import com.google.protobuf.Any;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import integration.echo.v1.EchoGrpc;
import integration.echo.v1.EchoOuterClass.Message;
import io.grpc.Context;
import io.grpc.ServerInterceptors;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.net.InetSocketAddress;
import java.util.concurrent.TimeUnit;

/** The Echo service. It prints "ready VERSION" once it serves, and "canceled" for each call that ended before its answer. */
final class Server extends EchoGrpc.EchoImplBase {
  static final String INSTANCE = "java";

  static void run(int port, long maxAge) throws Exception {
    NettyServerBuilder builder =
        NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", port))
            .maxInboundMetadataSize(1 << 16)
            .keepAliveTime(Idle.PING_SECONDS, TimeUnit.SECONDS)
            .keepAliveTimeout(3, TimeUnit.SECONDS)
            .addService(ServerInterceptors.intercept(new Server(), new EchoMetadata()));
    if (maxAge > 0) {
      builder.maxConnectionAge(maxAge, TimeUnit.MILLISECONDS);
    }
    io.grpc.Server server = builder.build().start();
    System.out.println("ready " + Peer.version());
    server.awaitTermination();
  }

  @Override
  public void unary(Message in, StreamObserver<Message> out) {
    if (!pause(in.getWaitMs())) {
      return;
    }
    if (in.getCode() != 0) {
      out.onError(failure(in));
      return;
    }
    out.onNext(in.toBuilder().setInstance(INSTANCE).build());
    out.onCompleted();
  }

  @Override
  public StreamObserver<Message> collect(StreamObserver<Message> out) {
    StringBuilder text = new StringBuilder();
    return new Incoming() {
      @Override
      public void onNext(Message in) {
        count++;
        text.append(in.getText());
      }

      @Override
      public void onCompleted() {
        out.onNext(Message.newBuilder().setTimes(count).setText(text.toString()).setInstance(INSTANCE).build());
        out.onCompleted();
      }
    };
  }

  @Override
  public void repeat(Message in, StreamObserver<Message> out) {
    for (int i = 0; i < in.getTimes(); i++) {
      out.onNext(in.toBuilder().clearCode().clearWaitMs().setTimes(i).setInstance(INSTANCE).build());
      if (!pause(in.getWaitMs())) {
        return;
      }
    }
    if (in.getCode() != 0) {
      out.onError(failure(in));
    } else {
      out.onCompleted();
    }
  }

  @Override
  public StreamObserver<Message> chat(StreamObserver<Message> out) {
    return new Incoming() {
      @Override
      public void onNext(Message in) {
        out.onNext(in.toBuilder().setInstance(INSTANCE).build());
      }

      @Override
      public void onCompleted() {
        out.onCompleted();
      }
    };
  }

  private abstract static class Incoming implements StreamObserver<Message> {
    int count;

    @Override
    public void onError(Throwable t) {
      System.out.println("canceled");
    }
  }

  /** Waits, and tells whether the call still runs. */
  private static boolean pause(int ms) {
    long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ms);
    Context context = Context.current();
    while (!context.isCancelled() && System.nanoTime() < end) {
      try {
        Thread.sleep(10);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        return false;
      }
    }
    if (context.isCancelled()) {
      System.out.println("canceled");
    }
    return !context.isCancelled();
  }

  private static Throwable failure(Message in) {
    ErrorInfo info = ErrorInfo.newBuilder().setReason("ECHO").setDomain("echo.test").putMetadata("k", "v").build();
    return StatusProto.toStatusException(
        Status.newBuilder().setCode(in.getCode()).setMessage(in.getText()).addDetails(Any.pack(info)).build());
  }
}
