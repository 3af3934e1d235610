// Calls without a pause, on four threads, and tells how many calls failed.
#include <atomic>
#include <mutex>
#include <thread>

#include "cases.h"

int Steady(const std::string& target, int seconds) {
  auto echo = integration::echo::v1::Echo::NewStub(Dial(target));
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  std::atomic<int> count{0}, failed{0};
  std::mutex mu;
  std::string first;
  auto calls = [&] {
    for (; std::chrono::steady_clock::now() < end; count++) {
      Message out;
      grpc::ClientContext context;
      ToEcho(context);
      context.set_wait_for_ready(true);
      auto status = echo->Unary(&context, {}, &out);
      if (status.ok()) continue;
      std::lock_guard<std::mutex> lock(mu);
      if (failed++ == 0) first = Text(status);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) threads.emplace_back(calls);
  for (auto& thread : threads) thread.join();
  Print("restart", failed == 0, std::to_string(count) + " calls, " + std::to_string(failed) + " failed " + first);
  return 0;
}
