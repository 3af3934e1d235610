// A gRPC application in C++: `peer server PORT MAX_AGE_MS`, `peer client TARGET [AUTHORITY]` or `peer steady TARGET SECONDS`.
#include "peer.h"

#include <iostream>

int main(int argc, char** argv) {
  std::string role = argc >= 3 ? argv[1] : "";
  if (role == "server" && argc == 4) return Serve(argv[2], std::stoi(argv[3]));
  if (role == "client" && (argc == 3 || argc == 4)) return Call(argv[2], argc == 4 ? argv[3] : "");
  if (role == "steady" && argc == 4) return Steady(argv[2], std::stoi(argv[3]));
  std::cerr << "usage: peer server PORT MAX_AGE_MS | peer client TARGET [AUTHORITY] | peer steady TARGET SECONDS\n";
  return 2;
}
