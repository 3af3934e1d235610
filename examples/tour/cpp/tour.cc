// Nine things an application does with its sidecar, over stubs made from the proto files.
// It is started by the sidecar: outrigger run -app-id tour -app-port 8085 -app-protocol grpc -- ./tour 8085
#include <cstdlib>
#include <future>
#include <iostream>
#include <mutex>

#include "tour.grpc.pb.h"
#include "tour.h"

namespace {

using examples::tour::v1::GreetRequest;
using examples::tour::v1::GreetResponse;

class Greeter final : public examples::tour::v1::Greeter::Service {
 public:
  explicit Greeter(const Channel& channel) : channel_(channel) {}

  grpc::Status Greet(grpc::ServerContext* context, const GreetRequest* request, GreetResponse* answer) override {
    bool branch;
    grpc::Status status = Branch(channel_, context, request->name(), &branch);
    if (branch) return status;
    std::call_once(once_, [&] { caller_.set_value(request->name()); });
    answer->set_text("hello, " + request->name());
    return grpc::Status::OK;
  }

  std::string Caller() {
    auto caller = caller_.get_future();
    if (caller.wait_for(std::chrono::seconds(20)) != std::future_status::ready) throw std::runtime_error("nobody called");
    return caller.get();
  }

 private:
  const Channel channel_;
  std::once_flag once_;
  std::promise<std::string> caller_;
};

void Take(const Channel& channel, Greeter& greeter) {
  std::cout << "1 call a service: " << Greet(channel) << std::endl;
  std::cout << "2 be called: by " << greeter.Caller() << std::endl;
  std::cout << "3 cache: " << Cached(channel) << std::endl;
  std::cout << "4 state: the old version is refused, " << Versions(channel) << std::endl;
  std::cout << "5 config: " << Settings(channel) << std::endl;
  std::cout << "6 events: " << Events(channel) << std::endl;
  std::cout << "7 lock: the old token is refused, " << Locked(channel) << std::endl;
  std::cout << "8 schedule: " << Fired(channel) << " fired" << std::endl;
  std::cout << "9 transaction: " << Saga(channel) << std::endl;
}

}  // namespace

const std::string kRun = "tour-cpp-" + std::to_string(std::chrono::system_clock::now().time_since_epoch().count());

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: tour PORT" << std::endl;
    return 2;
  }
  const char* sidecar = std::getenv("OUTRIGGER_GRPC_ADDR");
  auto channel = grpc::CreateChannel(sidecar ? sidecar : "127.0.0.1:7070", grpc::InsecureChannelCredentials());
  Greeter greeter(channel);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:" + std::string(argv[1]), grpc::InsecureServerCredentials());
  builder.RegisterService(&greeter);
  auto server = builder.BuildAndStart();
  try {
    Take(channel, greeter);
  } catch (const std::exception& e) {
    std::cerr << e.what() << std::endl;
    return 1;
  }
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  std::cout << "tour: 9 steps done" << std::endl;
}
