// build/main "a prompt": its continuation.
#include <cstdio>
#include <iostream>

#include "model.hpp"

int main(int count, char** arguments) try {
  Model model("bundle");
  for (int i = 1; i < count; ++i)
    std::printf("%s%s\n", arguments[i], model.generate(arguments[i]).c_str());
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
