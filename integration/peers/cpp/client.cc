// Runs the cases over one channel and prints a line of JSON for each.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <iostream>

#include "cases.h"

std::string called;

std::shared_ptr<grpc::Channel> Dial(const std::string& target) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 1 << 16);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 1500);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 3000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  if (!called.empty()) arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, called);
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
}

void Print(const std::string& name, bool ok, const std::string& seen) {
  google::protobuf::Struct line;
  (*line.mutable_fields())["case"].set_string_value(name);
  (*line.mutable_fields())["ok"].set_bool_value(ok);
  (*line.mutable_fields())["seen"].set_string_value(seen);
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(line, &text).ok()) text = "not UTF-8 in " + name;
  std::cout << text << std::endl;
}

int Call(const std::string& target, const std::string& authority) {
  Print("version", true, Version());
  called = authority;
  auto channel = Dial(target);
  for (const auto& cases : {called.empty() ? CacheCases(channel) : std::vector<Case>(), StreamCases(channel), UnaryCases(channel)}) {
    for (const auto& [name, run] : cases) {
      try {
        Print(name, true, run());
      } catch (const std::exception& e) {  // whatever it is, it is what was seen
        Print(name, false, e.what());
      }
    }
  }
  return 0;
}
