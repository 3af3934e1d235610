package peer;

import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.concurrent.TimeUnit;
import mesh.outrigger.cache.v1.CacheGrpc;
import mesh.outrigger.cache.v1.GetRequest;
import mesh.outrigger.cache.v1.GetResponse;
import mesh.outrigger.cache.v1.IncrementRequest;
import mesh.outrigger.cache.v1.SetRequest;

/** Calls of the sidecar's own API. */
final class CacheCalls {
  private final CacheGrpc.CacheBlockingStub cache;

  CacheCalls(ManagedChannel channel) {
    cache = CacheGrpc.newBlockingStub(channel);
  }

  String run() throws InvalidProtocolBufferException {
    CacheGrpc.CacheBlockingStub stub = cache.withDeadlineAfter(60, TimeUnit.SECONDS);
    String key = "java-" + System.nanoTime();
    ByteString value = ByteString.copyFromUtf8("41");
    String version = stub.set(SetRequest.newBuilder().setKey(key).setValue(value).setContentType("text/plain").build()).getVersion();
    GetResponse got = stub.get(GetRequest.newBuilder().setKey(key).build());
    Client.expect(got.getValue(), value);
    Client.expect(got.getContentType(), "text/plain");
    Client.expect(got.getVersion(), version);
    Client.expect(stub.increment(IncrementRequest.newBuilder().setKey(key).setDelta(1).build()).getValue(), 42L);
    StatusRuntimeException e = Calls.fails(() -> stub.get(GetRequest.newBuilder().setKey(key + "-absent").build()));
    ErrorInfo info = Calls.info(e);
    Client.expect(e.getStatus().getCode(), Status.Code.NOT_FOUND);
    Client.expect(info.getReason(), "KEY_NOT_FOUND");
    return "42, " + info.getReason();
  }
}
