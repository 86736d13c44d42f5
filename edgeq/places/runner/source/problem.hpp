// A request that cannot be carried out, as the worker reports it: where, what, and a remedy.
#pragma once

#include <stdexcept>
#include <string>

struct Problem : std::runtime_error {
  Problem(int status, std::string where, const std::string& what, std::string remedy)
      : runtime_error(what), status(status), where(std::move(where)), remedy(std::move(remedy)) {}

  int status;  // of this process: 2 for a wrong request, 3 for something that is not there
  std::string where, remedy;
};
