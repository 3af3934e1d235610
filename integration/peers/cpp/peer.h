// The roles of the program.
#pragma once

#include <string>

// Serve answers Echo calls on a loopback port for ever. Connections older than max_age_ms are ended, unless it is 0.
int Serve(const std::string& port, int max_age_ms);

// Call does the cases of the client against a target, and prints a line of JSON for each. Where an authority is given, it and no
// metadata says who is called.
int Call(const std::string& target, const std::string& authority);

// Steady calls without a pause for as long, and tells how many calls failed.
int Steady(const std::string& target, int seconds);
