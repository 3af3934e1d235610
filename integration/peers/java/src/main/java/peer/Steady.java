package peer;

import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Calls without a pause, on four threads, and tells how many calls failed. */
final class Steady {
  private Steady() {}

  static void run(String target, long seconds) throws InterruptedException {
    ManagedChannel channel = Client.channel(target).build();
    Calls calls = new Calls(channel);
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
    AtomicInteger count = new AtomicInteger();
    List<String> failures = new CopyOnWriteArrayList<>();
    ExecutorService threads = Executors.newFixedThreadPool(4);
    for (int i = 0; i < 4; i++) {
      threads.execute(
          () -> {
            while (System.nanoTime() < end) {
              count.incrementAndGet();
              try {
                calls.patient();
              } catch (StatusRuntimeException e) {
                failures.add(e.getMessage());
              }
            }
          });
    }
    threads.shutdown();
    threads.awaitTermination(seconds + 90, TimeUnit.SECONDS);
    String first = failures.isEmpty() ? "" : failures.get(0);
    Client.print("restart", failures.isEmpty(), count + " calls, " + failures.size() + " failed " + first);
    channel.shutdownNow();
  }
}
