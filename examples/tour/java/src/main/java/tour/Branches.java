package tour;

import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import java.util.List;
import java.util.concurrent.TimeUnit;
import mesh.outrigger.state.v1.Barrier;
import mesh.outrigger.state.v1.GetRequest;
import mesh.outrigger.state.v1.Operation;
import mesh.outrigger.state.v1.StateGrpc;
import mesh.outrigger.state.v1.TransactRequest;
import mesh.outrigger.transaction.v1.Call;
import mesh.outrigger.transaction.v1.RunSagaRequest;
import mesh.outrigger.transaction.v1.Step;
import mesh.outrigger.transaction.v1.TransactionGrpc;
import tour.proto.GreetRequest;

/** A saga, and its branches. */
final class Branches {
  /** What the call that is being served has in its metadata. */
  static final Context.Key<Metadata> METADATA = Context.key("metadata");

  private final ManagedChannel channel;

  Branches(ManagedChannel channel) {
    this.channel = channel;
  }

  static final class Keep implements ServerInterceptor {
    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(ServerCall<Q, A> call, Metadata metadata, ServerCallHandler<Q, A> next) {
      return Contexts.interceptCall(Context.current().withValue(METADATA, metadata), call, metadata, next);
    }
  }

  /** Tells whether the call that is being served is of a branch. */
  static boolean isBranch() {
    return said("tx-gid") != null;
  }

  private static String said(String name) {
    return METADATA.get().get(key(name));
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  /** Is a branch of a saga: what it writes is written once, whatever call is repeated or late. Two cannot be done. */
  void serve(String name) {
    String op = said("tx-op");
    if (name.equals("two") && op.equals("action")) {
      Metadata why = new Metadata();
      why.put(key("tx-reason"), "TX_BRANCH_FAILED");
      throw Status.ABORTED.withDescription("not today").asRuntimeException(why);
    }
    Barrier barrier = Barrier.newBuilder().setGid(said("tx-gid")).setBranch(said("tx-branch")).setOp(op).build();
    Operation.Set write = Operation.Set.newBuilder().setKey(Calls.RUN + "-" + name).setValue(Calls.bytes(op)).build();
    TransactRequest request =
        TransactRequest.newBuilder().setBarrier(barrier).addOperations(Operation.newBuilder().setSet(write)).build();
    StateGrpc.newBlockingStub(channel).withDeadlineAfter(Calls.LIMIT, TimeUnit.SECONDS).transact(request);
  }

  /** Runs a saga of two steps, each a call of the application itself. The second fails, so that the first is taken back. */
  String saga() {
    RunSagaRequest.Builder saga = RunSagaRequest.newBuilder().setGid(Calls.RUN).setWait(true);
    for (String name : List.of("one", "two")) {
      saga.addSteps(Step.newBuilder().setId(name).setAction(to(name)).setCompensation(to(name)));
    }
    mesh.outrigger.transaction.v1.Status status =
        TransactionGrpc.newBlockingStub(channel).withDeadlineAfter(Calls.LIMIT, TimeUnit.SECONDS).runSaga(saga.build()).getStatus();
    GetRequest last = GetRequest.newBuilder().setKey(Calls.RUN + "-one").build();
    String value =
        StateGrpc.newBlockingStub(channel).withDeadlineAfter(Calls.LIMIT, TimeUnit.SECONDS).get(last).getValue().toStringUtf8();
    String state = status.getState().name().replace("STATE_", "");
    return state + " at " + status.getFailedBranch() + "; last of one: " + value;
  }

  private static Call to(String name) {
    GreetRequest request = GreetRequest.newBuilder().setName(name).build();
    return Call.newBuilder().setService("tour").setMethod("examples.tour.v1.Greeter/Greet").setData(request.toByteString()).build();
  }
}
