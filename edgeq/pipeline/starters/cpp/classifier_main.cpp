// build/main "a text" "another": the probability of each label.
#include <cstdio>
#include <iostream>

#include "model.hpp"

int main(int count, char** texts) try {
  Model model("bundle");
  for (int i = 1; i < count; ++i) {
    std::printf("%s\n", texts[i]);
    for (const auto& [label, probability] : model.classify(texts[i]))
      std::printf("  %.4f %s\n", probability, label.c_str());
  }
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
