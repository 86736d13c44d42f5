// build/main: the shape and first value of each output for the arrays in inputs/.
#include <cstdio>
#include <iostream>

#include "model.hpp"

int main() try {
  Model model("bundle");
  for (const auto& [name, output] : model.answer({}).outputs) {
    std::printf("%s:", name.c_str());
    for (const int64_t size : output.shape) std::printf(" %lld", static_cast<long long>(size));
    std::printf(", first value %g\n", output.values.empty() ? 0.0 : output.values[0]);
  }
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
