#include "about.h"

#include <grpcpp/grpcpp.h>

std::string Version() {
  return "gRPC C++ " + grpc::Version() + " with protobuf " + google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION) +
         ", compiler " + __VERSION__;
}
