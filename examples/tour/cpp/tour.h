// The steps of the tour. Each answers what it saw, and throws when a call fails that should not.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>

extern const std::string kRun;  // so that the tour can be taken again

using Channel = std::shared_ptr<grpc::Channel>;

std::string Greet(const Channel& channel);
std::string Cached(const Channel& channel);
std::string Versions(const Channel& channel);
std::string Settings(const Channel& channel);
std::string Events(const Channel& channel);
std::string Locked(const Channel& channel);
std::string Fired(const Channel& channel);
std::string Saga(const Channel& channel);

// Branch is one of a saga, if that is what is being served; answered tells.
grpc::Status Branch(const Channel& channel, grpc::ServerContext* context, const std::string& name, bool* answered);

// Context is one of a call that has 20 seconds.
struct Context : grpc::ClientContext {
  Context() { set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20)); }
};

inline void Check(const grpc::Status& status) {
  if (!status.ok()) throw std::runtime_error(std::to_string(status.error_code()) + ": " + status.error_message());
}

// Call makes a unary call.
template <typename Out, typename Stub, typename In>
Out Call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const In&, Out*), const In& in) {
  Context context;
  Out out;
  Check((stub.*method)(&context, in, &out));
  return out;
}
