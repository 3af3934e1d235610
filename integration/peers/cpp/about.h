// What the roles of the program share.
#pragma once

#include <string>

#include "details.pb.h"

// Version says which gRPC this is.
std::string Version();

constexpr char kInfoType[] = "type.googleapis.com/google.rpc.ErrorInfo";
