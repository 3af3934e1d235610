package tour;

import io.grpc.ManagedChannel;
import io.grpc.Server;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.net.InetSocketAddress;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import tour.proto.GreetRequest;
import tour.proto.GreetResponse;
import tour.proto.GreeterGrpc;

/**
 * Nine things an application does with its sidecar, over stubs made from the proto files. It is started by the sidecar: outrigger
 * run -app-id tour -app-port 8085 -app-protocol grpc -- java ... tour.Tour 8085
 */
public final class Tour {
  private Tour() {}

  public static void main(String[] args) throws Exception {
    String sidecar = System.getenv().getOrDefault("OUTRIGGER_GRPC_ADDR", "127.0.0.1:7070");
    ManagedChannel channel = NettyChannelBuilder.forTarget(sidecar).usePlaintext().build();
    Greeter greeter = new Greeter(new Branches(channel));
    InetSocketAddress port = new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0]));
    Server server = NettyServerBuilder.forAddress(port).addService(greeter).intercept(new Branches.Keep()).build().start();
    try {
      take(channel, greeter);
    } finally {
      channel.shutdownNow();
      server.shutdownNow();
    }
    System.out.println("tour: 9 steps done");
  }

  private static void take(ManagedChannel channel, Greeter greeter) throws Exception {
    Calls calls = new Calls(channel);
    Streams streams = new Streams(channel);
    System.out.println("1 call a service: " + calls.greet());
    System.out.println("2 be called: by " + greeter.callers.poll(20, TimeUnit.SECONDS));
    System.out.println("3 cache: " + calls.cache());
    System.out.println("4 state: the old version is refused, " + calls.state());
    System.out.println("5 config: " + streams.config());
    System.out.println("6 events: " + streams.events());
    System.out.println("7 lock: the old token is refused, " + calls.lock());
    System.out.println("8 schedule: " + streams.schedule() + " fired");
    System.out.println("9 transaction: " + greeter.branches.saga());
  }

  private static final class Greeter extends GreeterGrpc.GreeterImplBase {
    private final BlockingQueue<String> callers = new LinkedBlockingQueue<>();
    private final Branches branches;

    Greeter(Branches branches) {
      this.branches = branches;
    }

    @Override
    public void greet(GreetRequest request, StreamObserver<GreetResponse> answer) {
      if (!Branches.isBranch()) {
        callers.add(request.getName());
      } else {
        try {
          branches.serve(request.getName());
        } catch (StatusRuntimeException e) {
          answer.onError(e);
          return;
        }
      }
      answer.onNext(GreetResponse.newBuilder().setText("hello, " + request.getName()).build());
      answer.onCompleted();
    }
  }
}
