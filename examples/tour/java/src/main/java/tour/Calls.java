package tour;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.util.concurrent.TimeUnit;
import mesh.outrigger.cache.v1.CacheGrpc;
import mesh.outrigger.cache.v1.IncrementRequest;
import mesh.outrigger.lock.v1.LockGrpc;
import mesh.outrigger.lock.v1.LockRequest;
import mesh.outrigger.lock.v1.UnlockRequest;
import mesh.outrigger.state.v1.Condition;
import mesh.outrigger.state.v1.Fence;
import mesh.outrigger.state.v1.SetRequest;
import mesh.outrigger.state.v1.StateGrpc;
import tour.proto.GreetRequest;
import tour.proto.GreeterGrpc;

/** The steps that are calls. */
final class Calls {
  static final int LIMIT = 20; // seconds that a call may take
  static final String RUN = "tour-java-" + System.currentTimeMillis() + "-" + ProcessHandle.current().pid(); // it can be taken again

  private final ManagedChannel channel;

  Calls(ManagedChannel channel) {
    this.channel = channel;
  }

  /** Calls an application by its name. Until it is known, which takes a moment after its start, calls are refused. */
  String greet() throws InterruptedException {
    Metadata to = new Metadata();
    to.put(Metadata.Key.of("outrigger-service", Metadata.ASCII_STRING_MARSHALLER), "tour");
    GreeterGrpc.GreeterBlockingStub stub =
        GreeterGrpc.newBlockingStub(channel).withInterceptors(MetadataUtils.newAttachHeadersInterceptor(to));
    for (int i = 0; ; i++) {
      try {
        GreetRequest request = GreetRequest.newBuilder().setName("sidecar").build();
        return stub.withDeadlineAfter(LIMIT, TimeUnit.SECONDS).greet(request).getText();
      } catch (StatusRuntimeException e) {
        if (e.getStatus().getCode() != Status.Code.UNAVAILABLE || i == 100) {
          throw e;
        }
        Thread.sleep(100);
      }
    }
  }

  long cache() {
    CacheGrpc.CacheBlockingStub stub = CacheGrpc.newBlockingStub(channel).withDeadlineAfter(LIMIT, TimeUnit.SECONDS);
    stub.set(
        mesh.outrigger.cache.v1.SetRequest.newBuilder().setKey(RUN).setValue(bytes("41")).setTtl(seconds(60)).build());
    return stub.increment(IncrementRequest.newBuilder().setKey(RUN).setDelta(1).build()).getValue();
  }

  /** Changes a value only if nobody else has meanwhile. */
  String state() throws InvalidProtocolBufferException {
    StateGrpc.StateBlockingStub stub = states();
    String old = stub.set(SetRequest.newBuilder().setKey(RUN).setValue(bytes("1")).build()).getVersion();
    Condition unchanged = Condition.newBuilder().setIfVersion(old).build();
    SetRequest change = SetRequest.newBuilder().setKey(RUN).setValue(bytes("2")).setCondition(unchanged).build();
    stub.set(change);
    return refused(() -> stub.set(change));
  }

  /** Writes under a lock; who held it before is refused. */
  String lock() throws InvalidProtocolBufferException {
    LockGrpc.LockBlockingStub locks = LockGrpc.newBlockingStub(channel).withDeadlineAfter(LIMIT, TimeUnit.SECONDS);
    StateGrpc.StateBlockingStub stub = states();
    long[] tokens = new long[2];
    for (int i = 0; i < 2; i++) {
      tokens[i] = locks.lock(LockRequest.newBuilder().setName(RUN).setLease(seconds(10)).build()).getToken();
      stub.set(fenced("mine", tokens[i]));
      locks.unlock(UnlockRequest.newBuilder().setName(RUN).setToken(tokens[i]).build());
    }
    return refused(() -> stub.set(fenced("late", tokens[0])));
  }

  private StateGrpc.StateBlockingStub states() {
    return StateGrpc.newBlockingStub(channel).withDeadlineAfter(LIMIT, TimeUnit.SECONDS);
  }

  private static SetRequest fenced(String value, long token) {
    Fence fence = Fence.newBuilder().setName(RUN).setToken(token).build();
    return SetRequest.newBuilder().setKey(RUN).setValue(bytes(value)).setFence(fence).build();
  }

  /** The reason for which a call is refused. */
  private static String refused(Runnable call) throws InvalidProtocolBufferException {
    try {
      call.run();
    } catch (StatusRuntimeException e) {
      for (Any detail : StatusProto.fromThrowable(e).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          return detail.unpack(ErrorInfo.class).getReason();
        }
      }
      throw e;
    }
    throw new AssertionError("it was not refused");
  }

  static ByteString bytes(String text) {
    return ByteString.copyFromUtf8(text);
  }

  private static Duration seconds(int n) {
    return Duration.newBuilder().setSeconds(n).build();
  }
}
