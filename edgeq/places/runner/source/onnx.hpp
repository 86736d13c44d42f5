// A model opened by onnxruntime as the request says: its entries on this CPU, its prepared copy.
#pragma once

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "npy.hpp"
#include "reply.hpp"
#include "request.hpp"
#include "runtime.hpp"

class Onnx {
 public:
  Onnx(const Request& request, int threads)
      : runtime(request.library), threads(threads), request_(request) {}

  std::unique_ptr<Session> open() {
    runtime.register_arena();
    return std::make_unique<Session>(runtime, request_.model, threads, entries(), request_.prepared);
  }

  /// The session's entries on this CPU.
  Settings entries() {
    const auto of = [&](const std::string& kind) {
      const auto found = request_.entries.find(kind);
      return found == request_.entries.end() ? Settings{} : found->second;
    };
    Settings settings = of("any");
    settings.merge(of(cpu_class()));
    return settings;
  }

  Reply conditions() const {
    return Reply::conditions("onnxruntime " + runtime.version, "", threads, request_.prepared);
  }

  Runtime runtime;
  const int threads;

 private:
  std::string cpu_class() {
#if defined(__aarch64__)
    return "aarch64";
#else
    if (request_.probe.empty()) return "";
    // Whether products of 8 bits saturate: the kernel itself is asked, not a list of CPUs.
    const Session session(runtime, request_.probe, 1, {});
    Array left{&dtypes[1], {1, 64}, std::vector<char>(64, char(255))};
    Array right{&dtypes[2], {64, 64}, std::vector<char>(64 * 64, 127)};
    Feed feed(runtime, {left, right});
    feed.run(session, {"a", "b"}, {"y"});
    std::stringstream bytes;
    feed.write(bytes);
    Array product;
    read_array(bytes, request_.probe, product);
    std::vector<int32_t> values(64);
    std::memcpy(values.data(), product.bytes.data(), 64 * sizeof(int32_t));
    for (const int32_t value : values)
      if (value != 255 * 127 * 64) return "x86_64-without-vnni";
    return "";
#endif
  }

  const Request& request_;
};
