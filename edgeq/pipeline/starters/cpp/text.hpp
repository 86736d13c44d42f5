// A model of texts: token ids go in, one text at a time.
#pragma once

#include "session.hpp"
#include "tokenizer.hpp"

class TextModel {
 public:
  explicit TextModel(const fs::path& folder)
      : session_(folder), tokenizer_(folder / "tokenizer.json") {}

  std::vector<int64_t> tokens(const std::string& text) const { return tokenizer_.encode(text); }

  /// Runs the model on one text. No padding: it would change the answer.
  Outputs run(std::vector<int64_t> ids) {
    const std::vector<int64_t> shape{1, static_cast<int64_t>(ids.size())};
    std::vector<int64_t> mask(ids.size(), 1), types(ids.size(), 0);
    std::vector<Ort::Value> values;
    for (const std::string& name : session_.inputs) {
      if (name == "input_ids") values.push_back(input(ids, shape));
      if (name == "attention_mask") values.push_back(input(mask, shape));
      if (name == "token_type_ids") values.push_back(input(types, shape));
    }
    return session_.run(values);
  }

 protected:
  const Json& record() const { return session_.record; }
  const std::string& output() const { return session_.outputs.front(); }

  /// The ids of a self-test's text; the listed ones if there is no tokenizer.
  std::vector<int64_t> ids_of(const Json& wanted, const std::string& text) const {
    return Tokenizer::available ? tokens(text)
                                : wanted.at("token_ids").get<std::vector<int64_t>>();
  }

 private:
  Session session_;
  Tokenizer tokenizer_;
};
