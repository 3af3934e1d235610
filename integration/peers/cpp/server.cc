// The Echo service. It prints "ready VERSION" once it serves, and "canceled" for each call that ended before its answer.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <iostream>
#include <mutex>
#include <thread>

#include "echo.grpc.pb.h"
#include "about.h"
#include "peer.h"

namespace {

using grpc::ServerContext;
using grpc::Status;
using integration::echo::v1::Message;

constexpr char kInstance[] = "cpp";

void Say(const std::string& line) {
  static std::mutex mu;
  std::lock_guard<std::mutex> lock(mu);
  std::cout << line << std::endl;
}

Status Failure(const Message& in) {
  peers::ErrorInfo info;
  info.set_reason("ECHO");
  info.set_domain("echo.test");
  (*info.mutable_metadata())["k"] = "v";
  peers::Status details;
  details.set_code(in.code());
  details.set_message(in.text());
  auto* any = details.add_details();
  any->set_type_url(kInfoType);
  info.SerializeToString(any->mutable_value());
  return Status(static_cast<grpc::StatusCode>(in.code()), in.text(), details.SerializeAsString());
}

// Pause waits, and tells whether the call still runs.
bool Pause(ServerContext* context, int ms) {
  auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
  while (!context->IsCancelled() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return !context->IsCancelled();
}

Status Canceled() {
  Say("canceled");
  return Status::CANCELLED;
}

class Echo final : public integration::echo::v1::Echo::Service {
  Status Unary(ServerContext* context, const Message* in, Message* out) override {
    if (!Pause(context, in->wait_ms())) return Canceled();
    if (in->code() != 0) return Failure(*in);
    context->AddInitialMetadata("echo-header", "h");
    context->AddInitialMetadata("echo-bin", std::string("\x00\x01\xff", 3));
    context->AddTrailingMetadata("echo-trailer", "t");
    for (const auto& [name, value] : context->client_metadata()) {
      if (name == "x-echo" || name == "x-echo-bin") {
        context->AddTrailingMetadata("back-" + std::string(name.data(), name.size()), std::string(value.data(), value.size()));
      }
    }
    *out = *in;
    out->set_instance(kInstance);
    return Status::OK;
  }

  Status Collect(ServerContext* context, grpc::ServerReader<Message>* stream, Message* out) override {
    Message in;
    int count = 0;
    for (; stream->Read(&in); count++) out->mutable_text()->append(in.text());
    if (context->IsCancelled()) return Canceled();
    out->set_times(count);
    out->set_instance(kInstance);
    return Status::OK;
  }

  Status Repeat(ServerContext* context, const Message* in, grpc::ServerWriter<Message>* stream) override {
    Message out;
    out.set_text(in->text());
    out.set_data(in->data());
    out.set_instance(kInstance);
    for (int i = 0; i < in->times(); i++) {
      out.set_times(i);
      if (!stream->Write(out) || !Pause(context, in->wait_ms())) return Canceled();
    }
    return in->code() != 0 ? Failure(*in) : Status::OK;
  }

  Status Chat(ServerContext* context, grpc::ServerReaderWriter<Message, Message>* stream) override {
    for (Message message; stream->Read(&message);) {
      message.set_instance(kInstance);
      if (!stream->Write(message)) break;
    }
    return context->IsCancelled() ? Canceled() : Status::OK;
  }
};

}  // namespace

int Serve(const std::string& port, int max_age_ms) {
  Echo echo;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:" + port, grpc::InsecureServerCredentials());
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 1 << 16);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 1500);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 3000);
  if (max_age_ms > 0) builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, max_age_ms);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.RegisterService(&echo);
  auto server = builder.BuildAndStart();
  if (!server) return 1;
  Say("ready " + Version());
  server->Wait();
  return 0;
}
