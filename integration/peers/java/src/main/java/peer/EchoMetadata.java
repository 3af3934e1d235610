package peer;

import static io.grpc.Metadata.ASCII_STRING_MARSHALLER;
import static io.grpc.Metadata.BINARY_BYTE_MARSHALLER;

import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;

/** Sends headers and trailers of its own with each answer to a unary call, and the caller's back. */
final class EchoMetadata implements ServerInterceptor {
  static final Metadata.Key<String> HEADER = Metadata.Key.of("echo-header", ASCII_STRING_MARSHALLER);
  static final Metadata.Key<byte[]> HEADER_BIN = Metadata.Key.of("echo-bin", BINARY_BYTE_MARSHALLER);
  static final Metadata.Key<String> TRAILER = Metadata.Key.of("echo-trailer", ASCII_STRING_MARSHALLER);
  static final Metadata.Key<String> ECHO = Metadata.Key.of("x-echo", ASCII_STRING_MARSHALLER);
  static final Metadata.Key<byte[]> ECHO_BIN = Metadata.Key.of("x-echo-bin", BINARY_BYTE_MARSHALLER);
  static final Metadata.Key<String> BACK = Metadata.Key.of("back-x-echo", ASCII_STRING_MARSHALLER);
  static final Metadata.Key<byte[]> BACK_BIN = Metadata.Key.of("back-x-echo-bin", BINARY_BYTE_MARSHALLER);

  @Override
  public <I, O> ServerCall.Listener<I> interceptCall(ServerCall<I, O> call, Metadata in, ServerCallHandler<I, O> next) {
    return next.startCall(
        new SimpleForwardingServerCall<I, O>(call) {
          @Override
          public void sendHeaders(Metadata headers) {
            headers.put(HEADER, "h");
            headers.put(HEADER_BIN, new byte[] {0, 1, (byte) 255});
            super.sendHeaders(headers);
          }

          @Override
          public void close(Status status, Metadata trailers) {
            trailers.put(TRAILER, "t");
            copy(in, ECHO, trailers, BACK);
            copy(in, ECHO_BIN, trailers, BACK_BIN);
            super.close(status, trailers);
          }
        },
        in);
  }

  private static <T> void copy(Metadata from, Metadata.Key<T> name, Metadata to, Metadata.Key<T> back) {
    Iterable<T> values = from.getAll(name);
    if (values != null) {
      values.forEach(value -> to.put(back, value));
    }
  }
}
