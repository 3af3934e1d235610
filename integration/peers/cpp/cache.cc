// Calls of the sidecar's own cache.
#include <algorithm>
#include <thread>

#include "cases.h"
#include "outrigger/cache/v1/cache.grpc.pb.h"

namespace {

using outrigger::cache::v1::Cache;
using outrigger::cache::v1::GetRequest;
using outrigger::cache::v1::GetResponse;
using outrigger::cache::v1::IncrementRequest;
using outrigger::cache::v1::IncrementResponse;
using outrigger::cache::v1::SetRequest;
using outrigger::cache::v1::SetResponse;

std::string Key(const std::string& name) {
  return name + std::to_string(std::chrono::system_clock::now().time_since_epoch().count());
}

// Limit sets a deadline by which no call should end.
void Limit(grpc::ClientContext& context) { context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1)); }

std::string Set(Cache::Stub& stub, const std::string& key, const std::string& value, grpc_compression_algorithm how) {
  SetRequest in;
  SetResponse out;
  in.set_key(key);
  in.set_value(value);
  in.set_content_type("text/plain");
  grpc::ClientContext context;
  Limit(context);
  context.set_compression_algorithm(how);
  ExpectOK(stub.Set(&context, in, &out));
  return out.version();
}

GetResponse Get(Cache::Stub& stub, const std::string& key) {
  GetRequest in;
  GetResponse out;
  in.set_key(key);
  grpc::ClientContext context;
  Limit(context);
  ExpectOK(stub.Get(&context, in, &out));
  return out;
}

int64_t Increment(Cache::Stub& stub, const std::string& key) {
  IncrementRequest in;
  IncrementResponse out;
  in.set_key(key);
  in.set_delta(1);
  grpc::ClientContext context;
  Limit(context);
  return stub.Increment(&context, in, &out).ok() ? out.value() : -1;
}

std::string Small(Cache::Stub& stub) {
  auto key = Key("cpp-");
  auto version = Set(stub, key, "41", GRPC_COMPRESS_NONE);
  auto got = Get(stub, key);
  Expect(got.value() == "41" && got.content_type() == "text/plain" && got.version() == version, got.DebugString());

  std::vector<int64_t> sums(50);
  std::vector<std::thread> threads;
  for (auto& sum : sums) threads.emplace_back([&] { sum = Increment(stub, key); });
  for (auto& thread : threads) thread.join();
  std::sort(sums.begin(), sums.end());
  for (size_t i = 0; i < sums.size(); i++) Expect(sums[i] == static_cast<int64_t>(42 + i), std::to_string(sums[i]));

  GetRequest absent;
  absent.set_key(key + "-absent");
  grpc::ClientContext context;
  auto status = stub.Get(&context, absent, &got);
  Expect(status.error_code() == grpc::NOT_FOUND && Info(status).reason() == "KEY_NOT_FOUND", Text(status));
  return "42 to 91, " + Info(status).reason();
}

std::string Large(Cache::Stub& stub) {
  std::string key = Key("cpp-large-"), value;
  while (value.size() < 1 << 20) value += "0123456789abcdef";
  for (auto how : {GRPC_COMPRESS_NONE, GRPC_COMPRESS_GZIP}) {
    Set(stub, key, value, how);
    Expect(Get(stub, key).value() == value, "another value");
  }
  return std::to_string(value.size()) + " bytes, plain and compressed";
}

}  // namespace

std::vector<Case> CacheCases(std::shared_ptr<grpc::Channel> channel) {
  std::shared_ptr<Cache::Stub> stub = Cache::NewStub(channel);
  return {{"cache", [=] { return Small(*stub); }}, {"cache large", [=] { return Large(*stub); }}};
}
