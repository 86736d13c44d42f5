// build/main "a text" "another": how similar each text is to the first.
#include <cmath>
#include <cstdio>
#include <iostream>
#include <numeric>

#include "model.hpp"

static float cosine(const std::vector<float>& a, const std::vector<float>& b) {
  const auto dot = [](const std::vector<float>& x, const std::vector<float>& y) {
    return std::inner_product(x.begin(), x.end(), y.begin(), 0.0f);
  };
  return dot(a, b) / std::sqrt(dot(a, a) * dot(b, b));
}

int main(int count, char** texts) try {
  Model model("bundle");
  if (count < 2) return 2;
  const std::vector<float> first = model.embed(texts[1]);
  for (int i = 2; i < count; ++i)
    std::printf("%.4f %s\n", cosine(first, model.embed(texts[i])), texts[i]);
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
