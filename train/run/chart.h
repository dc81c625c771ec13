#pragma once

#include <cstddef>
#include <string>
#include <vector>

// Curves as block characters, for terminals.
namespace qgrpo::train {

// At most `width` means of neighbouring values; the values themselves where there are no more.
std::vector<double> bucket_means(const std::vector<double>& values, std::size_t width);

// The curve of the values on one line, `width` characters, scaled to their range.
std::string sparkline(const std::vector<double>& values, std::size_t width);

// The curve as bars over `height` lines, the top one first: an eighth of a line is (high - low) /
// (8 height), values beyond the bounds are drawn at them, and none is drawn lower than an eighth.
// Needs low < high and at least one value, line and column.
std::vector<std::string> chart(const std::vector<double>& values, std::size_t width,
                               std::size_t height, double low, double high);

}  // namespace qgrpo::train
