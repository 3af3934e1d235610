package peer;

import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import integration.echo.v1.EchoGrpc;
import integration.echo.v1.EchoOuterClass.Message;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.IntStream;

/** Unary calls of the Echo service behind two sidecars. */
final class Calls {
  static final Metadata.Key<String> SERVICE = Metadata.Key.of("outrigger-service", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> ORIGIN = Metadata.Key.of("outrigger-origin", Metadata.ASCII_STRING_MARSHALLER);
  private static final Message EMPTY = Message.getDefaultInstance();

  private final ManagedChannel channel;

  Calls(ManagedChannel channel) {
    this.channel = channel;
  }

  /** An empty call, which waits until there is a connection. */
  void patient() {
    echo(to("echo")).withWaitForReady().unary(EMPTY);
  }

  static Metadata to(String service) {
    Metadata metadata = new Metadata();
    if (!Client.isAuthority(service)) {
      metadata.put(SERVICE, service);
    }
    return metadata;
  }

  /** A stub whose calls should end long before its deadline. */
  private EchoGrpc.EchoBlockingStub echo(Metadata metadata) {
    return EchoGrpc.newBlockingStub(channel)
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata))
        .withDeadlineAfter(60, TimeUnit.SECONDS);
  }

  /** What an answer brought beside its message. */
  private static final class Seen {
    final AtomicReference<Metadata> header = new AtomicReference<>();
    final AtomicReference<Metadata> trailer = new AtomicReference<>();

    EchoGrpc.EchoBlockingStub of(EchoGrpc.EchoBlockingStub stub) {
      return stub.withInterceptors(MetadataUtils.newCaptureMetadataInterceptor(header, trailer));
    }
  }

  String same(int size) {
    return same(echo(to("echo")), size);
  }

  private static String same(EchoGrpc.EchoBlockingStub stub, int size) {
    byte[] data = new byte[size];
    for (int i = 0; i < size; i++) {
      data[i] = (byte) (i * 31);
    }
    Message answer = stub.unary(Message.newBuilder().setText("hello").setData(ByteString.copyFrom(data)).build());
    Client.expect(answer.getText(), "hello");
    Client.expect(Arrays.equals(answer.getData().toByteArray(), data), true);
    return answer.getData().size() + " bytes from " + answer.getInstance();
  }

  String gzip() {
    return same(echo(to("echo")).withCompression("gzip"), 100 << 10);
  }

  String metadata() {
    Metadata sent = to("echo");
    sent.put(EchoMetadata.ECHO, "1");
    sent.put(EchoMetadata.ECHO, "2");
    sent.put(EchoMetadata.ECHO_BIN, new byte[] {0, (byte) 200, 10});
    sent.put(EchoMetadata.ECHO_BIN, new byte[] {(byte) 255});
    Seen seen = new Seen();
    seen.of(echo(sent)).unary(EMPTY);
    Client.expect(all(seen.header.get(), EchoMetadata.HEADER), List.of("h"));
    Client.expect(all(seen.trailer.get(), EchoMetadata.TRAILER), List.of("t"));
    Client.expect(all(seen.trailer.get(), EchoMetadata.BACK), List.of("1", "2"));
    Client.expect(bytes(seen.header.get(), EchoMetadata.HEADER_BIN), "[[0, 1, -1]]");
    Client.expect(bytes(seen.trailer.get(), EchoMetadata.BACK_BIN), "[[0, -56, 10], [-1]]");
    return "two values, binary ones too, both ways";
  }

  private static <T> List<T> all(Metadata metadata, Metadata.Key<T> name) {
    List<T> values = new ArrayList<>();
    Iterable<T> found = metadata.getAll(name);
    if (found != null) {
      found.forEach(values::add);
    }
    return values;
  }

  private static String bytes(Metadata metadata, Metadata.Key<byte[]> name) {
    return all(metadata, name).stream().map(Arrays::toString).toList().toString();
  }

  String status() throws InvalidProtocolBufferException {
    Message in = Message.newBuilder().setText("schön 100 % 日本").setCode(Status.Code.DATA_LOSS.value()).build();
    StatusRuntimeException e = fails(() -> echo(to("echo")).unary(in));
    Client.expect(e.getStatus().getCode(), Status.Code.DATA_LOSS);
    Client.expect(e.getStatus().getDescription(), in.getText());
    ErrorInfo want = ErrorInfo.newBuilder().setReason("ECHO").setDomain("echo.test").putMetadata("k", "v").build();
    Client.expect(info(e), want);
    return e.getMessage() + " " + info(e).getReason();
  }

  String origin() {
    Seen good = new Seen();
    good.of(echo(to("echo"))).unary(EMPTY);
    Message failing = Message.newBuilder().setCode(Status.Code.FAILED_PRECONDITION.value()).build();
    StatusRuntimeException failed = fails(() -> echo(to("echo")).unary(failing));
    StatusRuntimeException absent = fails(() -> echo(to("nobody")).unary(EMPTY));
    List<String> got = new ArrayList<>();
    for (Metadata m : List.of(good.trailer.get(), failed.getTrailers(), absent.getTrailers())) {
      got.addAll(all(m, ORIGIN));
    }
    Client.expect(got, List.of("app", "app", "sidecar"));
    return got + ", " + absent.getMessage();
  }

  String deadline() {
    long began = System.nanoTime();
    Message waiting = Message.newBuilder().setWaitMs(60_000).build();
    StatusRuntimeException e = fails(() -> echo(to("echo")).withDeadlineAfter(500, TimeUnit.MILLISECONDS).unary(waiting));
    Client.expect(e.getStatus().getCode(), Status.Code.DEADLINE_EXCEEDED);
    Client.expect(System.nanoTime() - began < TimeUnit.SECONDS.toNanos(20), true);
    return e.getStatus().getCode().toString();
  }

  String concurrent() throws Exception {
    long began = System.nanoTime();
    EchoGrpc.EchoBlockingStub stub = echo(to("echo"));
    List<Message> sent = IntStream.range(0, 50).mapToObj(i -> Message.newBuilder().setText("" + i).setWaitMs(500).build()).toList();
    List<Future<Message>> calls = new ArrayList<>();
    for (Message m : sent) {
      calls.add(ClientCalls.futureUnaryCall(stub.getChannel().newCall(EchoGrpc.getUnaryMethod(), stub.getCallOptions()), m));
    }
    for (int i = 0; i < sent.size(); i++) {
      Client.expect(calls.get(i).get().getText(), sent.get(i).getText());
    }
    Client.expect(System.nanoTime() - began < TimeUnit.SECONDS.toNanos(20), true); // one after the other takes 25 s
    return "50 at once";
  }

  String largeHeader() {
    String value = "abcdefghijklmnop".repeat(512);
    Metadata sent = to("echo");
    sent.put(EchoMetadata.ECHO, value);
    Seen seen = new Seen();
    seen.of(echo(sent)).unary(EMPTY);
    Client.expect(all(seen.trailer.get(), EchoMetadata.BACK), List.of(value));
    return value.length() + " bytes";
  }

  static StatusRuntimeException fails(Runnable call) {
    try {
      call.run();
    } catch (StatusRuntimeException e) {
      return e;
    }
    throw new AssertionError("the call did not fail");
  }

  static ErrorInfo info(StatusRuntimeException e) throws InvalidProtocolBufferException {
    return StatusProto.fromThrowable(e).getDetails(0).unpack(ErrorInfo.class);
  }
}
