// When enough runs are timed, as edgeq.measure.sequential decides it: see the reasons there.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "request.hpp"

namespace statistics {

constexpr double kError = 0.025, kFirst = 2.0 / 3, kGrowth = 1.5;

/// P(k successes of n) for k = 0 … n.
inline std::vector<double> binomial(size_t n, double q) {
  std::vector<double> weights{0.0};
  for (size_t k = 0; k < n; ++k)
    weights.push_back(weights.back() + std::log(double(n - k)) - std::log(double(k + 1)) +
                      std::log(q) - std::log1p(-q));
  const double most = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - most);
  for (double& weight : weights) weight /= sum;
  return weights;
}

/// The error probability of one end of an interval at the last of `looks`.
inline double tail(double chance, const std::vector<size_t>& looks) {
  const auto usable = std::count_if(looks.begin(), looks.end(), [&](size_t size) {
    return std::pow(chance, double(size)) <= kFirst * kError;
  });
  return usable < 2 ? kFirst * kError : (1 - kFirst) * kError / std::pow(2.0, double(usable - 1));
}

/// Whether the limit lies outside the interval of its quantile.
inline bool is_decided(std::vector<double> samples, const Limit& limit,
                       const std::vector<size_t>& looks) {
  std::sort(samples.begin(), samples.end());
  const size_t n = samples.size();
  const auto chances = binomial(n, limit.q);
  size_t low = 0, high = 0;
  double below = 0, above = 0;
  for (size_t k = 0; k <= n && (below += chances[k]) <= tail(1 - limit.q, looks); ++k) low = k + 1;
  for (size_t k = n + 1; k-- > 0;) {
    above += chances[k];
    if (above > tail(limit.q, looks)) {
      high = k + 1;
      break;
    }
  }
  const bool kept = high <= n && samples[high - 1] <= limit.seconds;
  return kept || (low > 0 && samples[low - 1] > limit.seconds);
}

inline size_t needed(double q) {
  return size_t(std::ceil(std::log(kFirst * kError) / std::log(q)));
}

/// Lets `take` add samples until every limit is decided; returns the sample sizes tested.
inline std::vector<size_t> settle(const std::vector<double>& samples, const std::vector<Limit>& limits,
                                  const std::function<void()>& take, const std::string& effort,
                                  const std::function<double()>& clock) {
  const double usual = effort == "quick" ? 60 : 600, most = effort == "quick" ? 600 : 1800;
  std::vector<size_t> looks;
  const double begin = clock();
  bool is_over = false;
  while (!limits.empty()) {
    looks.push_back(samples.size());
    size_t least = 0;
    for (const Limit& limit : limits)
      if (!is_decided(samples, limit, looks)) least = std::max(least, needed(limit.q));
    if (least == 0 || is_over) break;
    const auto size = std::max(least, size_t(std::ceil(kGrowth * double(samples.size()))));
    while (samples.size() < size && !is_over) {
      take();
      const double elapsed = clock() - begin;
      is_over = (elapsed >= usual && samples.size() >= least) || elapsed >= most;
    }
  }
  return looks;
}

}  // namespace statistics
