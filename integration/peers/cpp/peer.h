// What the two roles of the program share.
#pragma once

#include <string>

#include "details.pb.h"

// Serve answers Echo calls on a loopback port for ever. Connections older than max_age_ms are ended, unless it is 0.
int Serve(const std::string& port, int max_age_ms);

// Call does the cases of the client against a target, and prints a line of JSON for each. Where an authority is given, it and no
// metadata says who is called.
int Call(const std::string& target, const std::string& authority);

// Steady calls without a pause for as long, and tells how many calls failed.
int Steady(const std::string& target, int seconds);

// Version says which gRPC this is.
std::string Version();

constexpr char kInfoType[] = "type.googleapis.com/google.rpc.ErrorInfo";
