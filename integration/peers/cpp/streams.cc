// Streams of Echo behind two sidecars.
#include "cases.h"

namespace {

using Echo = integration::echo::v1::Echo;

constexpr int kRounds = 1000;

std::string Cancel(Echo::Stub& echo) {
  Message in, out;
  in.set_times(1 << 20);
  in.set_wait_ms(10);
  grpc::ClientContext context;
  ToEcho(context);
  auto stream = echo.Repeat(&context, in);
  for (int i = 0; i < 3; i++) Expect(stream->Read(&out), "no message");
  context.TryCancel();
  while (stream->Read(&out)) {
  }
  auto status = stream->Finish();
  Expect(status.error_code() == grpc::CANCELLED, Text(status));
  return Text(status);
}

std::string ClientStream(Echo::Stub& echo) {
  Message in, out;
  in.set_text("x");
  grpc::ClientContext context;
  ToEcho(context);
  auto stream = echo.Collect(&context, &out);
  for (int i = 0; i < kRounds; i++) Expect(stream->Write(in), "the stream ended");
  stream->WritesDone();
  ExpectOK(stream->Finish());
  Expect(out.times() == kRounds && out.text() == std::string(kRounds, 'x'), out.DebugString());
  return std::to_string(out.times()) + " sent";
}

std::string ServerStream(Echo::Stub& echo) {
  Message in, out;
  in.set_text("y");
  in.set_times(kRounds);
  grpc::ClientContext context;
  ToEcho(context);
  auto stream = echo.Repeat(&context, in);
  int got = 0;
  for (; stream->Read(&out); got++) Expect(out.times() == got && out.text() == "y", out.DebugString());
  ExpectOK(stream->Finish());
  Expect(got == kRounds, std::to_string(got));
  return std::to_string(got) + " in order";
}

std::string Bidi(Echo::Stub& echo) {
  grpc::ClientContext context;
  ToEcho(context);
  auto stream = echo.Chat(&context);
  Message message;
  for (int i = 0; i < kRounds; i++) {
    message.set_times(i);
    Expect(stream->Write(message) && stream->Read(&message), "the stream ended");
    Expect(message.times() == i, message.DebugString());
  }
  stream->WritesDone();
  Expect(!stream->Read(&message), "one more message");
  ExpectOK(stream->Finish());
  return std::to_string(kRounds) + " in turn";
}

}  // namespace

std::vector<Case> StreamCases(std::shared_ptr<grpc::Channel> channel) {
  std::shared_ptr<Echo::Stub> echo = Echo::NewStub(channel);
  return {
      {"cancel", [=] { return Cancel(*echo); }},
      {"client stream", [=] { return ClientStream(*echo); }},
      {"server stream", [=] { return ServerStream(*echo); }},
      {"bidi", [=] { return Bidi(*echo); }},
  };
}
