// A language model on onnxruntime, as edgeq.formats.onnx.decoder runs it: keys and values are arrays
// for the whole context, an input and an output of the graph at the same time.
#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "npy.hpp"
#include "onnx.hpp"
#include "problem.hpp"
#include "request.hpp"

class OnnxText {
 public:
  OnnxText(Onnx& onnx, const Request& request)
      : vocabulary(request.vocabulary),
        runtime_(onnx.runtime),
        request_(request),
        session_(onnx.open()) {
    for (const auto& cache : request.caches) {
      const size_t bytes = count_of(cache.shape) * sizeof(float);
      memory_.emplace_back(std::calloc(bytes, 1), std::free);  // places take memory once written
      if (!memory_.back()) throw Problem(3, "memory", "has no room for the cache", "take a smaller context");
      caches_.push_back(value(memory_.back().get(), bytes, cache.shape, kFloat));
    }
    const std::string given = session_->metadata("edgeq.rope_switch");
    switch_ = given.empty() ? -1 : std::stol(given);
    takes_length_ = std::count(request.inputs.begin(), request.inputs.end(), "text_length") > 0;
  }
  ~OnnxText() {
    for (const Handle cache : caches_) runtime_.call<void>(kReleaseValue, cache);
  }
  OnnxText(const OnnxText&) = delete;
  OnnxText& operator=(const OnnxText&) = delete;

  /// Token ids of the request's text: a tokenizer is the app's own, and here is none.
  std::vector<int32_t> tokens(const std::string&) const { return read_ids(request_.ids); }

  /// Starts a text; the logits after its last token.
  const float* prefill(const std::vector<int32_t>& ids) {
    seen_.clear();
    return append(ids.data(), ids.size(), false);
  }

  const float* step(int32_t id) { return append(&id, 1, false); }

  /// The logits of the last positions of a text, row after row; `piece` tokens are run at a time.
  std::vector<float> logits(const std::vector<int32_t>& ids, size_t last, size_t piece) {
    seen_.clear();
    const size_t first = ids.size() - std::min(last, ids.size());
    std::vector<float> rows;
    for (size_t at = 0; at < ids.size(); at += piece) {
      const size_t end = std::min(at + piece, ids.size());
      const float* found = append(ids.data() + at, end - at, true);
      const size_t skipped = std::min(end, std::max(at, first)) - at;
      rows.insert(rows.end(), found + skipped * size_t(vocabulary),
                  found + (end - at) * size_t(vocabulary));
    }
    return rows;
  }

  const int32_t vocabulary;

 private:
  static constexpr size_t kAtOnce = 512;  // tokens in one run
  static constexpr int kFloat = 1, kInt64 = 7;

  /// Appends tokens; the logits of every one or of the last.
  const float* append(const int32_t* ids, size_t count, bool every) {
    const size_t before = seen_.size(), length = before + count;
    // Earlier keys were rotated by the angles of short texts: computed again.
    if (switch_ >= 0 && long(before) <= switch_ && switch_ < long(length) && before > 0)
      run_all(std::vector<int32_t>(seen_).data(), before, 0, length, false);
    seen_.insert(seen_.end(), ids, ids + count);
    return run_all(ids, count, before, length, every);
  }

  const float* run_all(const int32_t* ids, size_t count, size_t past, size_t length, bool every) {
    logits_.resize((every ? count : 1) * size_t(vocabulary));
    for (size_t at = 0; at < count; at += kAtOnce) {
      const size_t size = std::min(kAtOnce, count - at);
      float* into = logits_.data() + (every ? at * size_t(vocabulary) : 0);
      run(ids + at, size, past + at, length, into, every ? size : 1);
    }
    return logits_.data();
  }

  void run(const int32_t* ids, size_t count, size_t past, size_t length, float* into, size_t rows) {
    std::vector<int64_t> wide(ids, ids + count);
    int64_t place = int64_t(past), kept = int64_t(rows), whole = int64_t(length);
    std::vector<const char*> inputs{"input_ids", "past_length", "logits_to_keep"};
    std::vector<Handle> given{value(wide.data(), count * sizeof(int64_t), {1, int64_t(count)}, kInt64),
                              value(&place, sizeof place, {1}, kInt64),
                              value(&kept, sizeof kept, {1}, kInt64)};
    if (takes_length_) {
      inputs.push_back("text_length");
      given.push_back(value(&whole, sizeof whole, {1}, kInt64));
    }
    const size_t own = given.size();
    std::vector<const char*> outputs{"logits"};
    std::vector<Handle> found{value(into, rows * size_t(vocabulary) * sizeof(float),
                                    {1, int64_t(rows), vocabulary}, kFloat)};
    for (size_t i = 0; i < caches_.size(); ++i) {
      inputs.push_back(request_.caches[i].past.c_str());
      outputs.push_back(request_.caches[i].present.c_str());
      given.push_back(caches_[i]);
      found.push_back(caches_[i]);
    }
    const Handle status = runtime_.call<Handle>(
        kRun, session_->handle(), static_cast<const void*>(nullptr), inputs.data(), given.data(),
        given.size(), outputs.data(), outputs.size(), found.data());
    for (size_t i = 0; i < own; ++i) runtime_.call<void>(kReleaseValue, given[i]);
    runtime_.call<void>(kReleaseValue, found[0]);
    runtime_.check(status);
  }

  Handle value(void* data, size_t bytes, const std::vector<int64_t>& shape, int type) const {
    return runtime_.tensor(data, bytes, shape, type);
  }

  const Runtime& runtime_;
  const Request& request_;
  std::unique_ptr<Session> session_;
  std::vector<std::unique_ptr<void, decltype(&std::free)>> memory_;
  std::vector<Handle> caches_;
  std::vector<int32_t> seen_;
  std::vector<float> logits_;
  long switch_ = -1;
  bool takes_length_ = false;
};
