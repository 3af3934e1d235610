package peer;

import com.google.gson.Gson;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;

/** Runs the client's cases over one channel; each prints a line of JSON. */
final class Client {
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  /** Of the channels, where it and no metadata says who is called. */
  private static String authority = "";

  private Client() {}

  static void run(String target, String name) throws Exception {
    authority = name;
    print("version", true, Peer.version());
    ManagedChannel channel = channel(target).build();
    ManagedChannel quiet = channel(target).keepAliveTime(Idle.PING_SECONDS, TimeUnit.SECONDS).keepAliveTimeout(3, TimeUnit.SECONDS).keepAliveWithoutCalls(true).build();
    Idle idle = new Idle(quiet);
    Calls calls = new Calls(channel);
    CacheCalls cache = new CacheCalls(channel);
    Streams streams = new Streams(channel);
    Map<String, Callable<String>> cases = new LinkedHashMap<>();
    cases.put("unary 1 KiB", () -> calls.same(1 << 10));
    cases.put("unary 3 MiB", () -> calls.same(3 << 20));
    cases.put("metadata", calls::metadata);
    cases.put("status", calls::status);
    cases.put("origin", calls::origin);
    cases.put("deadline", calls::deadline);
    cases.put("cancel", streams::cancel);
    cases.put("client stream", streams::clientStream);
    cases.put("server stream", streams::serverStream);
    cases.put("bidi", streams::bidi);
    cases.put("concurrent", calls::concurrent);
    cases.put("large header", calls::largeHeader);
    cases.put("gzip", calls::gzip);
    if (authority.isEmpty()) {
      cases.put("cache", cache::small);
      cases.put("cache large", cache::large);
    }
    cases.put("idle", idle::run);
    for (Map.Entry<String, Callable<String>> c : cases.entrySet()) {
      try {
        print(c.getKey(), true, c.getValue().call());
      } catch (Exception | AssertionError e) { // whatever it is, it is what was seen
        print(c.getKey(), false, e.toString());
      }
    }
    channel.shutdownNow();
    quiet.shutdownNow();
  }

  static ManagedChannelBuilder<?> channel(String target) {
    ManagedChannelBuilder<?> channel = Grpc.newChannelBuilder(target, InsecureChannelCredentials.create()).maxInboundMetadataSize(1 << 16);
    return authority.isEmpty() ? channel : channel.overrideAuthority(authority);
  }

  static boolean isAuthority(String service) {
    return authority.equals(service);
  }

  static void print(String name, boolean ok, String seen) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("case", name);
    line.put("ok", ok);
    line.put("seen", seen);
    OUT.println(new Gson().toJson(line));
  }

  static <T> void expect(T got, T want) {
    if (!got.equals(want)) {
      throw new AssertionError("got " + got + ", want " + want);
    }
  }
}
