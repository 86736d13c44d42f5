// Proves that this program gives the answers that were checked: build/selftest
#include <cmath>
#include <cstdio>
#include <iostream>

#include "model.hpp"

/// Length of the difference over the length of the listed values.
static double distance(const Json& expected, const Output& got) {
  double difference = 0, length = 0;
  for (size_t i = 0; i < expected.at("at").size(); ++i) {
    const double wanted = expected.at("values").at(i);
    difference += std::pow(got.values.at(expected.at("at").at(i)) - wanted, 2);
    length += wanted * wanted;
  }
  return difference == 0 ? 0 : std::sqrt(difference / length);
}

/// Whether the CPU has the name in the self-test; elsewhere kernels may round differently.
static bool is_same_cpu(const std::string& name) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(": ") + 2) == name;
  return false;
}

static bool passes(const Answer& got, const Json& wanted, double most, int number) {
  double gap = 0;
  for (const Json& output : wanted.at("outputs")) {
    const double each = distance(output, got.outputs.at(output.at("name")));
    if (!(each <= gap)) gap = each;  // not a number stays, and fails
  }
  const bool same_tokens = !got.tokens || Json(*got.tokens) == wanted.at("token_ids");
  const bool same_labels = !wanted.contains("labels") || Json(*got.labels) == wanted.at("labels");
  const bool good = gap <= most && same_tokens && same_labels;
  std::printf("case %d: %s, %s%sdistance %.1e (at most %g)\n", number, good ? "pass" : "FAIL",
              same_tokens ? "" : "OTHER TOKEN IDS, ", same_labels ? "" : "OTHER LABELS, ", gap,
              most);
  return good;
}

int main(int count, char** arguments) try {
  const fs::path folder = count > 1 ? arguments[1] : "bundle";
  const Json test = read_json(folder / "selftest.json");
  const double most = test.at(is_same_cpu(test.at("cpu")) ? "largest_distance_same_cpu"
                                                          : "largest_distance_other_cpu");
  Model model(folder);
  int number = 0, failures = 0;
  for (const Json& wanted : test.at("cases"))
    failures += !passes(model.answer(wanted), wanted, most, ++number);
  return failures ? 1 : 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
