#include "model/ops/adamw.h"

#include "model/ops/cases/cases.h"

namespace qgrpo::cases {

// Around a thread's 4 elements, a block of 256, and the least size with 8-bit states.
const std::vector<AdamWCase>& adamw() {
  static const std::vector<AdamWCase> cases = {
      {"one element", Kind::tiny, 1},
      {"four", Kind::edge, 4},
      {"seven", Kind::odd, 7},
      {"one below a block", Kind::edge, 255},
      {"a block", Kind::edge, 256},
      {"a block and one", Kind::edge, 257},
      {"the least with 8-bit states", Kind::edge, 4096},
      {"chunks, blocks and a rest", Kind::odd, 2 * 4096 + 3 * 256 + 77},
      // A task of the CPU: 128 blocks.
      {"one below a task", Kind::edge, 32767},
      {"a task", Kind::edge, 32768},
      {"a task and one", Kind::edge, 32769},
      {"many blocks and a rest", Kind::real, 100000},
  };
  return cases;
}

// Around the eight lanes and the chunk of 4096 elements.
const std::vector<AdamWCase>& sum_of_squares() {
  static const std::vector<AdamWCase> cases = {
      {"one element", Kind::tiny, 1},
      {"below the lanes", Kind::odd, 7},
      {"nothing", Kind::tiny, 0},
      {"one a lane", Kind::edge, 8},
      {"one below a chunk", Kind::edge, 4095},
      {"a chunk", Kind::edge, 4096},
      {"a chunk and one", Kind::edge, 4097},
      {"a small one among large ones", Kind::edge, 256},
      {"three chunks and a rest", Kind::odd, 3 * 4096 + 1234},
      {"many chunks", Kind::odd, 70001},
      // 16 chunks, a task of the CPU; 32, a block of the device.
      {"one below a task's chunks", Kind::edge, 65535},
      {"a task's chunks", Kind::edge, 65536},
      {"a task's chunks and one", Kind::edge, 65537},
      {"one below a block's chunks", Kind::edge, 131071},
      {"a block's chunks", Kind::edge, 131072},
      {"a block's chunks and one", Kind::edge, 131073},
      {"more chunks", Kind::real, 100000},
      {"nothing at the end", Kind::tiny, 0},
  };
  return cases;
}

Work adamw_8bit_work(std::int64_t n) {
  // The gradient is read; parameter and states are read and written.
  return {0.0, static_cast<double>(12 * n + 4 * n + 16 * optimizer_blocks(n))};
}

}  // namespace qgrpo::cases
