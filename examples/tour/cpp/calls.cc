// The steps that are calls.
#include <thread>

#include "outrigger/cache/v1/cache.grpc.pb.h"
#include "outrigger/lock/v1/lock.grpc.pb.h"
#include "outrigger/state/v1/state.grpc.pb.h"
#include "tour.grpc.pb.h"
#include "tour.h"

namespace {

using outrigger::cache::v1::Cache;
using outrigger::lock::v1::Lock;
using outrigger::state::v1::State;
namespace cache = outrigger::cache::v1;
namespace lock = outrigger::lock::v1;
namespace state = outrigger::state::v1;

// Refused is the reason for which a write is refused. It is looked up in the details' bytes: this gRPC brings no type for them.
std::string Refused(State::Stub& stub, const state::SetRequest& in) {
  Context context;
  state::SetResponse out;
  auto status = stub.Set(&context, in, &out);
  for (const std::string reason : {"VERSION_MISMATCH", "STALE_FENCE"}) {
    if (!status.ok() && status.error_details().find(reason) != std::string::npos) return reason;
  }
  throw std::runtime_error("it was not refused as it should: " + status.error_message());
}

state::SetRequest Fenced(const std::string& value, uint64_t token) {
  state::SetRequest in;
  in.set_key(kRun);
  in.set_value(value);
  in.mutable_fence()->set_name(kRun);
  in.mutable_fence()->set_token(token);
  return in;
}

}  // namespace

// Greet calls an application by its name. Until it is known, which takes a moment after its start, calls are refused.
std::string Greet(const Channel& channel) {
  auto stub = examples::tour::v1::Greeter::NewStub(channel);
  for (int i = 0;; i++) {
    Context context;
    context.AddMetadata("outrigger-service", "tour");
    examples::tour::v1::GreetRequest in;
    examples::tour::v1::GreetResponse out;
    in.set_name("sidecar");
    auto status = stub->Greet(&context, in, &out);
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE || i == 100) {
      Check(status);
      return out.text();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

std::string Cached(const Channel& channel) {
  auto stub = Cache::NewStub(channel);
  cache::SetRequest set;
  set.set_key(kRun);
  set.set_value("41");
  set.mutable_ttl()->set_seconds(60);
  Call(*stub, &Cache::Stub::Set, set);
  cache::IncrementRequest add;
  add.set_key(kRun);
  add.set_delta(1);
  return std::to_string(Call(*stub, &Cache::Stub::Increment, add).value());
}

// Versions changes a value only if nobody else has meanwhile.
std::string Versions(const Channel& channel) {
  auto stub = State::NewStub(channel);
  state::SetRequest set;
  set.set_key(kRun);
  set.set_value("1");
  auto old = Call(*stub, &State::Stub::Set, set).version();
  set.set_value("2");
  set.mutable_condition()->set_if_version(old);
  Call(*stub, &State::Stub::Set, set);
  return Refused(*stub, set);
}

// Locked writes under a lock; who held it before is refused.
std::string Locked(const Channel& channel) {
  auto locks = Lock::NewStub(channel);
  auto states = State::NewStub(channel);
  uint64_t tokens[2];
  for (auto& token : tokens) {
    lock::LockRequest take;
    take.set_name(kRun);
    take.mutable_lease()->set_seconds(10);
    token = Call(*locks, &Lock::Stub::Lock, take).token();
    Call(*states, &State::Stub::Set, Fenced("mine", token));
    lock::UnlockRequest give;
    give.set_name(kRun);
    give.set_token(token);
    Call(*locks, &Lock::Stub::Unlock, give);
  }
  return Refused(*states, Fenced("late", tokens[0]));
}
