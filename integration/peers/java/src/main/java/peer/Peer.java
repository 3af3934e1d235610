package peer;

import io.grpc.ManagedChannel;
import io.netty.util.Version;

/** A gRPC application in Java: {@code Peer server PORT MAX_AGE_MS}, {@code Peer client TARGET [AUTHORITY]} or {@code Peer steady TARGET SECONDS}. */
public final class Peer {
  private Peer() {}

  public static void main(String[] args) throws Exception {
    switch (args[0]) {
      case "server" -> Server.run(Integer.parseInt(args[1]), Long.parseLong(args[2]));
      case "client" -> Client.run(args[1], args.length > 2 ? args[2] : "");
      case "steady" -> Steady.run(args[1], Long.parseLong(args[2]));
      default -> throw new IllegalArgumentException(args[0]);
    }
  }

  static String version() {
    String grpc = ManagedChannel.class.getPackage().getImplementationVersion();
    String netty = Version.identify().get("netty-common").artifactVersion();
    return "grpc-java " + grpc + " with Netty " + netty + " on Java " + Runtime.version();
  }
}
