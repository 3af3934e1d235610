package peer;

import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import java.util.concurrent.TimeUnit;

/** A connection that has nothing to do but keepalive, while the other cases run on theirs. */
final class Idle {
  static final long PING_SECONDS = 10; // grpc-java takes no less

  private final ManagedChannel channel;
  private final Calls calls;
  private final long began;
  private volatile boolean left;

  Idle(ManagedChannel channel) {
    this.channel = channel;
    this.calls = new Calls(channel);
    calls.same(1 << 10);
    channel.notifyWhenStateChanged(ConnectivityState.READY, () -> left = true);
    began = System.nanoTime();
  }

  String run() throws InterruptedException {
    long idle = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began);
    Thread.sleep(Math.max(TimeUnit.SECONDS.toMillis(PING_SECONDS) + 4000 - idle, 0));
    Client.expect(left, false);
    calls.same(1 << 10);
    Client.expect(left, false);
    Client.expect(channel.getState(false), ConnectivityState.READY);
    return "the same connection after " + TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - began) + " s";
  }
}
