// The client's cases. Each answers what it saw, and throws a std::runtime_error that tells what was not as it should be.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "echo.grpc.pb.h"
#include "about.h"
#include "peer.h"

using integration::echo::v1::Message;
using Case = std::pair<std::string, std::function<std::string()>>;

// The service that the channel's authority names, if it does.
extern std::string called;

// The channel as every case uses it.
std::shared_ptr<grpc::Channel> Dial(const std::string& target);

// Print says how a case went.
void Print(const std::string& name, bool ok, const std::string& seen);

std::vector<Case> UnaryCases(std::shared_ptr<grpc::Channel> channel);
std::vector<Case> StreamCases(std::shared_ptr<grpc::Channel> channel);
std::vector<Case> CacheCases(std::shared_ptr<grpc::Channel> channel);

inline void Expect(bool held, const std::string& seen) {
  if (!held) throw std::runtime_error("seen: " + seen);
}

inline std::string Text(const grpc::Status& s) { return std::to_string(s.error_code()) + " " + s.error_message(); }

inline void ExpectOK(const grpc::Status& s) { Expect(s.ok(), Text(s)); }

// Sets a deadline by which no call should end, and where it goes.
inline void ToEcho(grpc::ClientContext& context, const std::string& service = "echo") {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  if (service != called) context.AddMetadata("outrigger-service", service);
}

inline peers::ErrorInfo Info(const grpc::Status& s) {
  peers::Status details;
  peers::ErrorInfo info;
  Expect(details.ParseFromString(s.error_details()) && details.details_size() > 0, "no details");
  Expect(info.ParseFromString(details.details(0).value()), "other details");
  return info;
}
