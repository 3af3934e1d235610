// The steps that are streams.
#include "outrigger/config/v1/config.grpc.pb.h"
#include "outrigger/pubsub/v1/pubsub.grpc.pb.h"
#include "outrigger/schedule/v1/schedule.grpc.pb.h"
#include "tour.h"

namespace {

using outrigger::config::v1::Config;
using outrigger::pubsub::v1::PubSub;
using outrigger::schedule::v1::Schedule;
namespace config = outrigger::config::v1;
namespace pubsub = outrigger::pubsub::v1;
namespace schedule = outrigger::schedule::v1;

void Set(Config::Stub& stub, const std::string& value) {
  config::SetRequest in;
  in.set_key(kRun);
  in.set_value(value);
  Call(stub, &Config::Stub::Set, in);
}

void Publish(PubSub::Stub& stub) {
  pubsub::PublishManyRequest in;
  in.set_topic(kRun);
  for (auto text : {"1", "2", "3"}) {
    auto event = in.add_events();
    event->set_data(text);
    event->set_ordering_key("tour");
  }
  Call(stub, &PubSub::Stub::PublishMany, in);
}

}  // namespace

// Settings sees a setting change.
std::string Settings(const Channel& channel) {
  auto stub = Config::NewStub(channel);
  Set(*stub, "hello");
  Context context;
  config::WatchRequest in;
  in.add_keys(kRun);
  auto watch = stub->Watch(&context, in);
  config::WatchResponse message;
  std::string seen, last;
  while (last != "servus" && watch->Read(&message)) {
    for (auto& change : message.changes()) {
      last = change.item().value();
      seen += (seen.empty() ? "" : ", then ") + last;
    }
    if (seen == "hello") Set(*stub, "servus");
  }
  context.TryCancel();
  watch->Finish();
  return seen;
}

// Events subscribes, publishes, and acknowledges each event once it is handled.
std::string Events(const Channel& channel) {
  auto stub = PubSub::NewStub(channel);
  Context context;
  auto stream = stub->Subscribe(&context);
  pubsub::SubscribeRequest start;
  start.mutable_start()->set_topic(kRun);
  start.mutable_start()->mutable_credit()->set_messages(10);
  stream->Write(start);
  pubsub::SubscribeResponse message;
  std::string seen;
  int count = 0;
  while (stream->Read(&message)) {
    if (message.has_started()) Publish(*stub);
    if (!message.has_delivery()) continue;
    seen += (seen.empty() ? "" : " ") + message.delivery().event().data();
    pubsub::SubscribeRequest ack;
    ack.mutable_ack()->add_delivery_ids(message.delivery().delivery_id());
    stream->Write(ack);
    if (++count == 3) stream->WritesDone();
  }
  Check(stream->Finish());
  return seen;
}

// Fired has a job fire, and settles the firing.
std::string Fired(const Channel& channel) {
  auto stub = Schedule::NewStub(channel);
  schedule::CreateRequest create;
  create.mutable_job()->set_name(kRun);
  create.mutable_job()->set_data("wake-up");
  create.mutable_job()->mutable_trigger()->mutable_at()->set_seconds(
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count());
  Call(*stub, &Schedule::Stub::Create, create);
  Context context;
  auto stream = stub->Watch(&context);
  schedule::WatchRequest start;
  start.mutable_start()->set_prefix(kRun);
  start.mutable_start()->mutable_credit()->set_messages(1);
  stream->Write(start);
  schedule::WatchResponse message;
  std::string seen;
  while (stream->Read(&message)) {
    if (!message.has_delivery()) continue;
    seen = message.delivery().data();
    schedule::WatchRequest ack;
    ack.mutable_ack()->add_delivery_ids(message.delivery().delivery_id());
    stream->Write(ack);
    stream->WritesDone();
  }
  Check(stream->Finish());
  return seen;
}
