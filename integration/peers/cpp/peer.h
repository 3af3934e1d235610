// What the two roles of the program share.
#pragma once

#include <string>

#include "details.pb.h"

// Serve answers Echo calls on a loopback port for ever.
int Serve(const std::string& port);

// Call does the cases of the client against a target, and prints a line of JSON for each.
int Call(const std::string& target);

// Version says which gRPC this is.
std::string Version();

constexpr char kInfoType[] = "type.googleapis.com/google.rpc.ErrorInfo";
