#include "model/ops/linear.h"

#include "model/ops/error.h"

namespace qgrpo {

void require_runs(const char* op, std::span<const AdapterRun> runs, std::int64_t rows) {
  std::int64_t covered = 0;
  for (const AdapterRun& run : runs) {
    require(run.begin == covered && run.length >= 0, "{}: a run begins at row {}, expected {}", op,
            run.begin, covered);
    covered += run.length;
  }
  require(covered == rows, "{}: the runs cover {} of {} rows", op, covered, rows);
}

const LoraFactors* adapter_factors(const char* op, const Linear& linear, std::int32_t adapter) {
  if (adapter < 0) return nullptr;
  const auto index = static_cast<std::size_t>(adapter);
  require(index < linear.adapters.size(), "{}: a run names adapter {} of {}", op, adapter,
          linear.adapters.size());
  const LoraFactors& factors = linear.adapters[index];
  return factors.a && factors.a.shape[0] > 0 ? &factors : nullptr;
}

}  // namespace qgrpo
