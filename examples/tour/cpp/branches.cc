// A saga, and its branches.
#include "outrigger/state/v1/state.grpc.pb.h"
#include "outrigger/transaction/v1/transaction.grpc.pb.h"
#include "tour.grpc.pb.h"
#include "tour.h"

namespace {

using outrigger::state::v1::State;
using outrigger::transaction::v1::Transaction;
namespace state = outrigger::state::v1;
namespace transaction = outrigger::transaction::v1;

std::string Said(const grpc::ServerContext& context, const char* name) {
  auto found = context.client_metadata().find(name);
  return found == context.client_metadata().end() ? "" : std::string(found->second.data(), found->second.size());
}

void To(const std::string& name, transaction::Call* call) {
  examples::tour::v1::GreetRequest request;
  request.set_name(name);
  call->set_service("tour");
  call->set_method("examples.tour.v1.Greeter/Greet");
  call->set_data(request.SerializeAsString());
}

}  // namespace

// What a branch writes is written once, whatever call is repeated or late. Two cannot be done.
grpc::Status Branch(const Channel& channel, grpc::ServerContext* context, const std::string& name, bool* answered) {
  std::string op = Said(*context, "tx-op");
  *answered = !op.empty();
  if (!*answered) return grpc::Status::OK;
  if (name == "two" && op == "action") {
    context->AddTrailingMetadata("tx-reason", "TX_BRANCH_FAILED");
    return {grpc::StatusCode::ABORTED, "not today"};
  }
  auto stub = State::NewStub(channel);
  state::TransactRequest in;
  in.mutable_barrier()->set_gid(Said(*context, "tx-gid"));
  in.mutable_barrier()->set_branch(Said(*context, "tx-branch"));
  in.mutable_barrier()->set_op(op);
  auto write = in.add_operations()->mutable_set();
  write->set_key(kRun + "-" + name);
  write->set_value(op);
  Context call;
  state::TransactResponse out;
  return stub->Transact(&call, in, &out);
}

// Saga runs one of two steps, each a call of the application itself. The second fails, so that the first is taken back.
std::string Saga(const Channel& channel) {
  auto stub = Transaction::NewStub(channel);
  transaction::RunSagaRequest in;
  in.set_gid(kRun);
  in.set_wait(true);
  for (const std::string name : {"one", "two"}) {
    auto step = in.add_steps();
    step->set_id(name);
    To(name, step->mutable_action());
    To(name, step->mutable_compensation());
  }
  auto status = Call(*stub, &Transaction::Stub::RunSaga, in).status();
  state::GetRequest last;
  last.set_key(kRun + "-one");
  auto states = State::NewStub(channel);
  auto value = Call(*states, &State::Stub::Get, last).value();
  auto name = transaction::State_Name(status.state()).substr(sizeof("STATE_") - 1);
  return name + " at " + status.failed_branch() + "; last of one: " + value;
}
