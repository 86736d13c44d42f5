// A JSON object, written key by key.
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "watch.hpp"

class Reply {
 public:
  /// What every pass says of the model and its runtime.
  static Reply conditions(const std::string& runtime, const std::string& instructions, int threads,
                          bool prepared) {
    Reply reply;
    reply.text("runtime", runtime);
    reply.raw("reference", "false");
    reply.text("instructions", instructions);
    reply.number("threads", threads);
    reply.raw("prepared", prepared ? "true" : "false");
    return reply;
  }

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
    raw(key, joined(values));
  }

  void rows(const std::string& key, const std::vector<std::vector<double>>& rows) {
    std::string list;
    for (const auto& row : rows) list += (list.empty() ? "" : ", ") + joined(row);
    raw(key, "[" + list + "]");
  }

  void bystanders(const Bystanders& seen) {
    number("cpus", double(sysconf(_SC_NPROCESSORS_ONLN)));
    number("others", seen.others());
    if (const auto range = seen.frequencies()) numbers("megahertz", {range->first, range->second});
    else raw("megahertz", "null");
  }

  void memory(const std::string& key, const Memory& memory) {
    raw(key, "{\"resident_bytes\": " + std::to_string(memory.resident) +
                 ", \"anonymous_bytes\": " + std::to_string(memory.anonymous) +
                 ", \"file_mapped_bytes\": " + std::to_string(memory.mapped) + "}");
  }

  std::string json() const { return "{" + content_ + "}"; }

 private:
  static std::string joined(const std::vector<double>& values) {
    std::string list;
    for (const double value : values) list += (list.empty() ? "" : ", ") + digits(value);
    return "[" + list + "]";
  }

  /// As many digits as the number needs; whole ones without a point.
  static std::string digits(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value);
    return text;
  }

  std::string content_;
};
