// A sentence encoder: a text becomes one vector.
#pragma once

#include "text.hpp"

class Model : public TextModel {
 public:
  using TextModel::TextModel;

  /// The vector of a text. Pooling is part of the model.
  std::vector<float> embed(const std::string& text) { return vector(tokens(prompted(text))); }

  /// The text with the model's default prompt in front of it, if it has one.
  std::string prompted(const std::string& text) const {
    const Json& settings = record().at("text");
    const Json name = settings.value("default_prompt", Json());
    return name.is_null() ? text : settings.at("prompts").at(name).get<std::string>() + text;
  }

  Answer answer(const Json& wanted) {
    const auto ids = ids_of(wanted, prompted(wanted.at("text")));
    return {ids, {{output(), {{1}, vector(ids)}}}, std::nullopt};
  }

 private:
  std::vector<float> vector(const std::vector<int64_t>& ids) { return run(ids).at(output()).values; }
};
