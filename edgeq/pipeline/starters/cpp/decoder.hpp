// A language model in ONNX: it continues a text, token by token.
#pragma once

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "session.hpp"
#include "tokenizer.hpp"

class Model {
 public:
  /// `context`: the most tokens of a text, with its continuation.
  explicit Model(const fs::path& folder, int64_t context = 2048)
      : session_(folder),
        tokenizer_(folder / "tokenizer.json"),
        binding_(session_.runtime()),
        context_(std::min<int64_t>(context, session_.record.at("text").at("max_tokens"))) {
    for (const Json& token : read_json(folder / "bundle.json").at("end_tokens"))
      end_tokens_.insert(token.get<int64_t>());
    const std::string past = "past_key_values";
    for (const Json& value : session_.record.at("inputs")) {
      const std::string name = value.at("name");
      if (name.rfind(past + ".", 0) != 0) continue;
      std::vector<int64_t> shape;
      size_t count = 1;
      for (const Json& size : value.at("shape")) {
        shape.push_back(size.is_number() ? size.get<int64_t>() : context_);
        count *= shape.back();
      }
      memory_.emplace_back(count, 0.0f);
      kept_.push_back(input(memory_.back(), shape));
      // One memory for both: new keys and values are written where the old ones are.
      binding_.BindInput(name.c_str(), kept_.back());
      binding_.BindOutput(("present" + name.substr(past.size())).c_str(), kept_.back());
    }
    const Json& logits = session_.record.at("outputs").at(0);
    scores_.resize(logits.at("shape").back().get<size_t>());
    last_ = input(scores_, {1, 1, static_cast<int64_t>(scores_.size())});
    binding_.BindOutput("logits", last_);
  }

  /// With the special tokens that precede a text.
  std::vector<int64_t> tokens(const std::string& text) const { return tokenizer_.encode(text); }

  /// Forgets the text that was read.
  void clear() {
    position_ = 0;
    for (std::vector<float>& values : memory_) std::fill(values.begin(), values.end(), 0.0f);
  }

  /// The scores of the token that follows `ids`, which are read behind what was read before.
  const std::vector<float>& append(const std::vector<int64_t>& ids) {
    if (ids.empty() || position_ + static_cast<int64_t>(ids.size()) > context_)
      throw std::runtime_error("these tokens are none, or do not fit into the context");
    for (size_t begin = 0; begin < ids.size(); begin += kAtOnce)
      run({ids.begin() + begin, ids.begin() + std::min(begin + kAtOnce, ids.size())});
    return scores_;
  }

  /// The likeliest continuation of a prompt, until an end token or `most` tokens. `say` gets it in
  /// pieces, as it is written.
  void generate(const std::string& prompt, int most,
                const std::function<void(const std::string&)>& say) {
    clear();
    std::vector<int64_t> ids = tokens(prompt);
    // A token's text depends on those before it: a space may begin it or not.
    std::vector<int64_t> recent(ids.end() - std::min<size_t>(4, ids.size()), ids.end());
    size_t shown = recent.size();
    while (most-- > 0 && position_ + static_cast<int64_t>(ids.size()) <= context_) {
      const std::vector<float>& scores = append(ids);
      const int64_t next = std::max_element(scores.begin(), scores.end()) - scores.begin();
      if (end_tokens_.count(next)) return;
      ids = {next};
      recent.push_back(next);
      const auto before = letters({recent.begin(), recent.begin() + shown});
      const auto whole = letters(recent);
      // The bytes of a character may come in several tokens.
      if (whole.size() <= before.size() || whole.back() == "\xef\xbf\xbd") continue;
      say(std::accumulate(whole.begin() + before.size(), whole.end(), std::string()));
      recent.erase(recent.begin(), recent.begin() + shown);
      shown = recent.size();
    }
  }

  std::string generate(const std::string& prompt, int most = 64) {
    std::string text;
    generate(prompt, most, [&](const std::string& piece) { text += piece; });
    return text;
  }

  /// The scores of the token after the self-test's text.
  Answer answer(const Json& wanted) {
    const auto ids = Tokenizer::available ? tokens(wanted.at("text"))
                                          : wanted.at("token_ids").get<std::vector<int64_t>>();
    clear();
    return {ids, {{"logits", {{static_cast<int64_t>(scores_.size())}, append(ids)}}}, {}};
  }

 private:
  static constexpr size_t kAtOnce = 512;  // tokens in one run: attention takes memory for each

  /// The text of tokens, character by character.
  std::vector<std::string> letters(const std::vector<int64_t>& ids) const {
    std::vector<std::string> found;
    for (const char byte : tokenizer_.decode(ids)) {
      if ((byte & 0xC0) != 0x80) found.emplace_back();
      found.back() += byte;
    }
    return found;
  }

  void run(std::vector<int64_t> ids) {
    std::vector<int64_t> past{position_}, keep{1};
    const Ort::Value values[] = {input(ids, {1, static_cast<int64_t>(ids.size())}),
                                 input(past, {1}), input(keep, {1})};
    binding_.BindInput("input_ids", values[0]);
    binding_.BindInput("past_length", values[1]);
    binding_.BindInput("logits_to_keep", values[2]);
    session_.runtime().Run(Ort::RunOptions{nullptr}, binding_);
    position_ += static_cast<int64_t>(ids.size());
  }

  Session session_;
  Tokenizer tokenizer_;
  Ort::IoBinding binding_;
  int64_t context_, position_ = 0;
  std::set<int64_t> end_tokens_;
  std::vector<std::vector<float>> memory_;
  std::vector<Ort::Value> kept_;
  std::vector<float> scores_;
  Ort::Value last_{nullptr};
};
