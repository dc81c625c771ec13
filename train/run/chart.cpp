#include "train/run/chart.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

constexpr std::array<const char*, 9> kBars = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr double kEighths = 8.0;

}  // namespace

std::vector<double> bucket_means(const std::vector<double>& values, std::size_t width) {
  const std::size_t columns = std::min(width, values.size());
  std::vector<double> means;
  for (std::size_t c = 0; c < columns; ++c) {
    const std::size_t begin = c * values.size() / columns;
    const std::size_t end = (c + 1) * values.size() / columns;
    double sum = 0.0;
    for (std::size_t i = begin; i < end; ++i) sum += values[i];
    means.push_back(sum / static_cast<double>(end - begin));
  }
  return means;
}

std::string sparkline(const std::vector<double>& values, std::size_t width) {
  const std::vector<double> means = bucket_means(values, width);
  if (means.empty()) return "";
  const auto [low, high] = std::minmax_element(means.begin(), means.end());
  const double range = *high - *low;
  std::string out;
  for (const double mean : means) {
    const double level = range > 0 ? (mean - *low) / range : 0.0;
    out += kBars[1 + static_cast<std::size_t>(std::min(7.0, std::floor(level * kEighths)))];
  }
  return out;
}

std::vector<std::string> chart(const std::vector<double>& values, std::size_t width,
                               std::size_t height, double low, double high) {
  require(!values.empty() && width > 0 && height > 0 && low < high, "a chart of nothing");
  std::vector<std::string> rows(height);
  for (const double mean : bucket_means(values, width)) {
    const double level = (std::clamp(mean, low, high) - low) / (high - low);
    const double eighths =
        std::max(1.0, std::round(level * kEighths * static_cast<double>(height)));
    for (std::size_t row = 0; row < height; ++row) {
      const double below = kEighths * static_cast<double>(height - 1 - row);
      rows[row] += kBars[static_cast<std::size_t>(std::clamp(eighths - below, 0.0, kEighths))];
    }
  }
  return rows;
}

}  // namespace qgrpo::train
