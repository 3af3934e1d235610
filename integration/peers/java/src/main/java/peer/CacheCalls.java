package peer;

import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import mesh.outrigger.cache.v1.CacheGrpc;
import mesh.outrigger.cache.v1.GetRequest;
import mesh.outrigger.cache.v1.GetResponse;
import mesh.outrigger.cache.v1.IncrementRequest;
import mesh.outrigger.cache.v1.IncrementResponse;
import mesh.outrigger.cache.v1.SetRequest;

/** Calls of the sidecar's own API. */
final class CacheCalls {
  private final CacheGrpc.CacheBlockingStub cache;

  CacheCalls(ManagedChannel channel) {
    cache = CacheGrpc.newBlockingStub(channel);
  }

  String small() throws InvalidProtocolBufferException {
    CacheGrpc.CacheBlockingStub stub = cache.withDeadlineAfter(60, TimeUnit.SECONDS);
    CacheGrpc.CacheFutureStub later = CacheGrpc.newFutureStub(cache.getChannel()).withDeadlineAfter(60, TimeUnit.SECONDS);
    String key = "java-" + System.nanoTime();
    ByteString value = ByteString.copyFromUtf8("41");
    String version = stub.set(SetRequest.newBuilder().setKey(key).setValue(value).setContentType("text/plain").build()).getVersion();
    GetResponse got = stub.get(GetRequest.newBuilder().setKey(key).build());
    Client.expect(got.getValue(), value);
    Client.expect(got.getContentType(), "text/plain");
    Client.expect(got.getVersion(), version);
    IncrementRequest add = IncrementRequest.newBuilder().setKey(key).setDelta(1).build();
    List<Long> sums = Stream.generate(() -> later.increment(add)).limit(50).toList().stream().map(CacheCalls::sum).sorted().toList();
    Client.expect(sums, LongStream.range(42, 92).boxed().toList());
    StatusRuntimeException e = Calls.fails(() -> stub.get(GetRequest.newBuilder().setKey(key + "-absent").build()));
    ErrorInfo info = Calls.info(e);
    Client.expect(e.getStatus().getCode(), Status.Code.NOT_FOUND);
    Client.expect(info.getReason(), "KEY_NOT_FOUND");
    return "42 to 91, " + info.getReason();
  }

  private static long sum(Future<IncrementResponse> call) {
    try {
      return call.get().getValue();
    } catch (InterruptedException | ExecutionException e) {
      throw new AssertionError(e);
    }
  }

  String large() {
    CacheGrpc.CacheBlockingStub stub = cache.withDeadlineAfter(60, TimeUnit.SECONDS);
    String key = "java-large-" + System.nanoTime();
    ByteString value = ByteString.copyFromUtf8("0123456789abcdef".repeat(64 << 10));
    for (CacheGrpc.CacheBlockingStub how : List.of(stub, stub.withCompression("gzip"))) {
      how.set(SetRequest.newBuilder().setKey(key).setValue(value).build());
      Client.expect(how.get(GetRequest.newBuilder().setKey(key).build()).getValue().equals(value), true);
    }
    return value.size() + " bytes, plain and compressed";
  }
}
