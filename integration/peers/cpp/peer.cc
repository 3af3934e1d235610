// A gRPC application in C++: `peer server PORT` or `peer client TARGET`.
#include "peer.h"

#include <grpcpp/grpcpp.h>

#include <iostream>

std::string Version() {
  return "gRPC C++ " + grpc::Version() + " with protobuf " + google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION) +
         ", compiler " + __VERSION__;
}

int main(int argc, char** argv) {
  std::string role = argc == 3 ? argv[1] : "";
  if (role == "server") return Serve(argv[2]);
  if (role == "client") return Call(argv[2]);
  std::cerr << "usage: peer server PORT | peer client TARGET\n";
  return 2;
}
