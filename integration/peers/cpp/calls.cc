// Unary calls of Echo behind two sidecars.
#include <thread>

#include "cases.h"

namespace {

using Values = std::vector<std::string>;
using Echo = integration::echo::v1::Echo;

Values Get(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata, const std::string& name) {
  Values values;
  auto [begin, end] = metadata.equal_range(name);
  for (auto i = begin; i != end; ++i) values.emplace_back(i->second.data(), i->second.size());
  return values;
}

std::string Same(Echo::Stub& echo, int size, bool gzip = false) {
  Message in, out;
  in.set_text("hello");
  for (int i = 0; i < size; i++) in.mutable_data()->push_back(static_cast<char>(i * 31));
  grpc::ClientContext context;
  ToEcho(context);
  if (gzip) context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  ExpectOK(echo.Unary(&context, in, &out));
  Expect(out.text() == "hello" && out.data() == in.data(), "another message");
  return std::to_string(out.data().size()) + " bytes from " + out.instance();
}

std::string Metadata(Echo::Stub& echo) {
  const std::string first("\x00\xc8\n", 3), second("\xff");
  grpc::ClientContext context;
  ToEcho(context);
  context.AddMetadata("x-echo", "1");
  context.AddMetadata("x-echo", "2");
  context.AddMetadata("x-echo-bin", first);
  context.AddMetadata("x-echo-bin", second);
  Message out;
  ExpectOK(echo.Unary(&context, {}, &out));
  const auto& header = context.GetServerInitialMetadata();
  const auto& trailer = context.GetServerTrailingMetadata();
  Expect(Get(header, "echo-header") == Values{"h"}, "another echo-header");
  Expect(Get(header, "echo-bin") == Values{std::string("\x00\x01\xff", 3)}, "another echo-bin");
  Expect(Get(trailer, "echo-trailer") == Values{"t"}, "another echo-trailer");
  Expect(Get(trailer, "back-x-echo") == Values{"1", "2"}, "another back-x-echo");
  Expect(Get(trailer, "back-x-echo-bin") == Values{first, second}, "another back-x-echo-bin");
  return "two values, binary ones too, both ways";
}

std::string Status(Echo::Stub& echo) {
  Message in, out;
  in.set_text(u8"schön 100 % 日本");
  in.set_code(grpc::DATA_LOSS);
  grpc::ClientContext context;
  ToEcho(context);
  auto status = echo.Unary(&context, in, &out);
  Expect(status.error_code() == grpc::DATA_LOSS && status.error_message() == in.text(), Text(status));
  auto info = Info(status);
  Expect(info.reason() == "ECHO" && info.domain() == "echo.test" && info.metadata().at("k") == "v", info.DebugString());
  return Text(status) + " " + info.reason();
}

std::string Origin(Echo::Stub& echo) {
  std::string seen;
  for (auto [service, code] : {std::pair("echo", grpc::OK), {"echo", grpc::FAILED_PRECONDITION}, {"nobody", grpc::UNAVAILABLE}}) {
    Message in, out;
    in.set_code(code);
    grpc::ClientContext context;
    ToEcho(context, service);
    auto status = echo.Unary(&context, in, &out);
    auto origin = Get(context.GetServerTrailingMetadata(), "outrigger-origin");
    Expect(origin.size() == 1 && status.error_code() == code, Text(status) + ", " + std::to_string(origin.size()) + " origins");
    seen += origin[0] + " ";
  }
  Expect(seen == "app app sidecar ", seen);
  return seen;
}

std::string Deadline(Echo::Stub& echo) {
  auto began = std::chrono::steady_clock::now();
  Message in, out;
  in.set_wait_ms(60000);
  grpc::ClientContext context;
  ToEcho(context);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  auto status = echo.Unary(&context, in, &out);
  Expect(status.error_code() == grpc::DEADLINE_EXCEEDED, Text(status));
  Expect(std::chrono::steady_clock::now() - began < std::chrono::seconds(20), "it took too long");
  return Text(status);
}

std::string Concurrent(Echo::Stub& echo) {
  auto began = std::chrono::steady_clock::now();
  Values seen(50);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < seen.size(); i++) {
    threads.emplace_back([&echo, &seen, i] {
      Message in, out;
      in.set_text(std::to_string(i));
      in.set_wait_ms(500);
      grpc::ClientContext context;
      ToEcho(context);
      auto status = echo.Unary(&context, in, &out);
      seen[i] = status.ok() ? out.text() : Text(status);
    });
  }
  for (auto& thread : threads) thread.join();
  for (size_t i = 0; i < seen.size(); i++) Expect(seen[i] == std::to_string(i), seen[i]);
  Expect(std::chrono::steady_clock::now() - began < std::chrono::seconds(20), "not at once");  // one after the other takes 25 s
  return "50 at once";
}

std::string LargeHeader(Echo::Stub& echo) {
  std::string value;
  for (int i = 0; i < 8 << 10; i++) value.push_back(static_cast<char>('a' + i * 7 % 26));
  grpc::ClientContext context;
  ToEcho(context);
  context.AddMetadata("x-echo", value);
  Message out;
  ExpectOK(echo.Unary(&context, {}, &out));
  Expect(Get(context.GetServerTrailingMetadata(), "back-x-echo") == Values{value}, "another value");
  return std::to_string(value.size()) + " bytes";
}

// Idle runs last: by then the channel's connection is there.
std::string Idle(grpc::Channel& channel, Echo::Stub& echo) {
  Expect(channel.GetState(false) == GRPC_CHANNEL_READY, "not ready before");
  auto end = std::chrono::system_clock::now() + std::chrono::seconds(6);
  Expect(!channel.WaitForStateChange(GRPC_CHANNEL_READY, end), "the connection was lost");
  Same(echo, 1 << 10);
  Expect(channel.GetState(false) == GRPC_CHANNEL_READY, "not ready after");
  return "the same connection after 6 s";
}

}  // namespace

std::vector<Case> UnaryCases(std::shared_ptr<grpc::Channel> channel) {
  std::shared_ptr<Echo::Stub> echo = Echo::NewStub(channel);
  return {
      {"unary 1 KiB", [=] { return Same(*echo, 1 << 10); }},
      {"unary 3 MiB", [=] { return Same(*echo, 3 << 20); }},
      {"gzip", [=] { return Same(*echo, 100 << 10, true); }},
      {"metadata", [=] { return Metadata(*echo); }},
      {"status", [=] { return Status(*echo); }},
      {"origin", [=] { return Origin(*echo); }},
      {"deadline", [=] { return Deadline(*echo); }},
      {"concurrent", [=] { return Concurrent(*echo); }},
      {"large header", [=] { return LargeHeader(*echo); }},
      {"idle", [=] { return Idle(*channel, *echo); }},
  };
}
