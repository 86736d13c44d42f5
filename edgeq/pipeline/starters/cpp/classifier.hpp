// A text classifier: a text gets a probability for each label.
#pragma once

#include <algorithm>
#include <cmath>

#include "text.hpp"

class Model : public TextModel {
 public:
  using TextModel::TextModel;

  /// The probability of each label.
  std::map<std::string, float> classify(const std::string& text) {
    return probabilities(scores(tokens(text)));
  }

  Answer answer(const Json& wanted) {
    const auto ids = ids_of(wanted, wanted.at("text"));
    Outputs found = run(ids);
    return {ids, found, labels(probabilities(found.at(output()).values))};
  }

  /// The labels that a text gets: the likeliest, or each above one half where it can have several.
  std::vector<std::string> labels(const std::map<std::string, float>& probabilities) const {
    std::vector<std::string> found;
    const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
    if (function() != "sigmoid")
      return {std::max_element(probabilities.begin(), probabilities.end(), less)->first};
    for (const std::string label : classes().at("labels"))
      if (probabilities.at(label) >= 0.5f) found.push_back(label);
    return found;
  }

 private:
  const Json& classes() const { return record().at("classes"); }
  std::string function() const { return classes().at("function"); }
  std::vector<float> scores(const std::vector<int64_t>& ids) { return run(ids).at(output()).values; }

  std::map<std::string, float> probabilities(const std::vector<float>& scores) const {
    const float largest = *std::max_element(scores.begin(), scores.end());
    float sum = 0;
    for (const float score : scores) sum += std::exp(score - largest);
    std::map<std::string, float> found;
    for (size_t i = 0; i < scores.size(); ++i)
      found[classes().at("labels").at(i)] =
          function() == "softmax"   ? std::exp(scores[i] - largest) / sum
          : function() == "sigmoid" ? 1 / (1 + std::exp(-scores[i]))
                                    : scores[i];
    return found;
  }
};
