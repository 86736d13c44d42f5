// A JSON object, written key by key.
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "watch.hpp"

class Reply {
 public:
  void raw(const std::string& key, const std::string& json) {
    content_ += (content_.empty() ? "\"" : ", \"") + key + "\": " + json;
  }

  void text(const std::string& key, const std::string& value) {
    std::string quoted = "\"";
    for (const unsigned char letter : value) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", letter);
      const bool is_plain = letter >= ' ' && letter != '"' && letter != '\\';
      quoted += is_plain ? std::string(1, char(letter)) : escaped;
    }
    raw(key, quoted + "\"");
  }

  void number(const std::string& key, std::optional<double> value) {
    raw(key, value ? digits(*value) : "null");
  }

  void numbers(const std::string& key, const std::vector<double>& values) {
    std::string list;
    for (const double value : values) list += (list.empty() ? "" : ", ") + digits(value);
    raw(key, "[" + list + "]");
  }

  void memory(const std::string& key, const Memory& memory) {
    raw(key, "{\"resident_bytes\": " + std::to_string(memory.resident) +
                 ", \"anonymous_bytes\": " + std::to_string(memory.anonymous) +
                 ", \"file_mapped_bytes\": " + std::to_string(memory.mapped) + "}");
  }

  std::string json() const { return "{" + content_ + "}"; }

 private:
  /// As many digits as the number needs; whole ones without a point.
  static std::string digits(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value);
    return text;
  }

  std::string content_;
};
