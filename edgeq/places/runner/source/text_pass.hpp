// The passes of a language model, as edgeq.measure.text_passes and edgeq.measure.generation have them.
#pragma once

#include <algorithm>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "npy.hpp"
#include "reply.hpp"
#include "request.hpp"
#include "statistics.hpp"
#include "watch.hpp"

/// Library: what opens a model. Model: one that is open.
template <typename Library, typename Model>
class TextPass {
 public:
  explicit TextPass(const Request& request)
      : request_(request),
        library_(request, request.thread_count()) {}

  Reply latency() {
    const double start = seconds_now();
    Model model(library_, request_);
    const double loaded = seconds_now() - start;
    const auto ids = model.tokens(text());
    if (ids.empty()) throw Problem(2, "text", "is empty", "give a text of a letter or more");
    std::vector<int32_t> prompt;
    for (int i = 0; i < request_.prompt; ++i) prompt.push_back(ids[size_t(i) % ids.size()]);
    for (int i = 1; i < kWarmup; ++i) model.prefill(prompt);
    one_text(model, prompt, request_.generate);

    std::vector<double> first, totals;
    std::vector<std::vector<double>> tokens;
    const auto take_text = [&] {
      const Text text = one_text(model, prompt, request_.generate);
      first.push_back(text.first);
      tokens.push_back(text.rest);
      totals.push_back(std::accumulate(text.rest.begin(), text.rest.end(), 0.0));
    };
    const auto take_prompt = [&] { first.push_back(one_text(model, prompt, 0).first); };
    const Bystanders bystanders;
    const double begin = seconds_now();
    const auto is_enough = [&] {
      const double elapsed = seconds_now() - begin;
      return request_.effort == "quick"
                 ? first.size() >= 128 || (first.size() >= 6 && elapsed >= 10)
                 : first.size() >= 64 && elapsed >= 60;
    };
    while (!is_enough()) take_text();
    const auto text_looks = statistics::settle(totals, request_.rest_limits, take_text,
                                               request_.effort, seconds_now);
    const auto looks = statistics::settle(first, request_.limits, take_prompt, request_.effort,
                                          seconds_now);
    Reply reply = library_.conditions();
    reply.number("load_seconds", loaded);
    reply.numbers("first", first);
    reply.rows("tokens", tokens);
    reply.numbers("looks", {looks.begin(), looks.end()});
    reply.numbers("text_looks", {text_looks.begin(), text_looks.end()});
    reply.bystanders(bystanders);
    return reply;
  }

  Reply memory() {
    const Memory baseline = Memory::read();
    Peak peak;
    Model model(library_, request_);
    const Memory loaded = Memory::read();
    std::vector<int32_t> ids;
    for (int i = 0; i < request_.context; ++i) ids.push_back(i % model.vocabulary);
    const auto steps = std::min(request_.generate, request_.context - 1);
    model.prefill({ids.begin(), ids.end() - steps});
    for (auto id = ids.end() - steps; id != ids.end(); ++id) model.step(*id);
    const Memory ran = Memory::read();
    peak.stop();
    model.tokens(text());
    const Memory tokenized = Memory::read();
    Reply reply = library_.conditions();
    reply.memory("baseline", baseline);
    reply.memory("loaded", loaded);
    reply.memory("ran", ran);
    reply.memory("with_tokenizer", tokenized);
    reply.number("high_water_bytes", double(std::max(peak.high_water, tokenized.high_water)));
    reply.number("anonymous_peak_bytes", double(peak.anonymous));
    reply.number("runs", request_.context);
    reply.number("context", request_.context);
    return reply;
  }

  /// Writes the logits of the last positions of a text.
  Reply quality() {
    Model model(library_, request_);
    std::ofstream file(request_.outputs, std::ios::binary);
    const auto rows = model.logits(read_ids(request_.ids), size_t(request_.last), size_t(request_.piece));
    const auto count = int64_t(rows.size()) / model.vocabulary;
    write_array(file, dtypes[0], {count, model.vocabulary}, rows.data());
    if (!file.flush()) throw Problem(3, request_.outputs, "cannot be written", "free some space");
    return library_.conditions();
  }

 private:
  static constexpr int kWarmup = 5;

  struct Text {
    double first;
    std::vector<double> rest;
  };

  Text one_text(Model& model, const std::vector<int32_t>& prompt, int count) const {
    const auto likeliest = [&](const float* logits) {
      return int32_t(std::max_element(logits, logits + model.vocabulary) - logits);
    };
    double start = seconds_now();
    int32_t token = likeliest(model.prefill(prompt));
    double now = seconds_now();
    Text text{now - start, {}};
    for (int i = 0; i < count; ++i) {
      token = likeliest(model.step(token));
      start = now, now = seconds_now();
      text.rest.push_back(now - start);
    }
    return text;
  }

  std::string text() const {
    std::ifstream file(request_.text, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const Request& request_;
  Library library_;
};
