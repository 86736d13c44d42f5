// What a program gives for one case of the self-test, and how its files are read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

using Json = nlohmann::json;
namespace fs = std::filesystem;

inline Json read_json(const fs::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path.string() + " cannot be read");
  return Json::parse(file);
}

/// An array that the model gave, flattened; integers become floats.
struct Output {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using Outputs = std::map<std::string, Output>;

/// Token ids and labels are null where there are none.
struct Answer {
  std::optional<std::vector<int64_t>> tokens;
  Outputs outputs;
  std::optional<std::vector<std::string>> labels;
};
