#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/device_sizes.h"
#include "bench/report.h"
#include "model/config.h"
#include "model/ops/cases/cases.h"
#include "model/ops/ops.h"

// `bench ops --device cuda`: each hot operator of a model's shape on the device, beside the least
// that it has to move. A GPU is timed; on the software GPU the kernels are counted, and times for
// known cards are predicted from the counts.
namespace qgrpo::bench {

// One operator, ready to run.
struct DeviceCase {
  std::string shape;
  cases::Work work;  // the least that it is
  std::function<void()> call;
};

// The operands of the cases: sizes of the model, memory that lives until the next case.
class DeviceBench {
 public:
  DeviceBench(Backend& backend, const model::Config& config, std::int64_t rows, bool timed)
      : backend_(backend),
        config_(config),
        rows_(rows),
        timed_(timed),
        training_rows_(timed ? kTrainingRows : kCountedRows),
        head_rows_(timed ? kTrainingHeadRows : kCountedHeadRows) {}

  // A decode step of `rows` completions of one prompt.
  DeviceCase decode_rmsnorm();
  DeviceCase decode_qkv();
  DeviceCase decode_rope_kv_write();
  DeviceCase decode_attention();
  DeviceCase decode_o();
  DeviceCase decode_gate_up();
  DeviceCase decode_down();
  DeviceCase decode_head_sample();
  DeviceCase decode_head_sample_top_p();
  // A training step of 8 completions of 512 tokens behind a prompt of 256, of which the head sees a part at
  // a time; on the software GPU on few enough rows for it.
  DeviceCase linear_forward();
  DeviceCase linear_backward();
  DeviceCase rmsnorm_forward();
  DeviceCase rmsnorm_backward();
  DeviceCase rope_forward();
  DeviceCase swiglu_forward();
  DeviceCase swiglu_backward();
  DeviceCase attention_forward();
  DeviceCase attention_backward();
  DeviceCase head_logprob();
  DeviceCase head_objective();
  DeviceCase adamw_8bit();

  // Ends the last case: its decode window, and its operands.
  void clear();

 private:
  // Activations (bf16 on the device) or float32, with values of a few hundred different numbers.
  TensorView activations(Shape shape, float scale = 1.0f);
  TensorView floats(Shape shape, float scale = 1.0f);
  TensorView filled(Shape shape, DType dtype, float scale);
  TensorView bytes(Shape shape);
  // A linear of the model's NF4 base with bias or without and a LoRA of rank 64: several of
  // equal sizes, to be taken in turn, and where time is measured so many that weights come from
  // memory.
  std::vector<Linear> linears(std::int64_t outputs, std::int64_t inputs, bool bias);
  std::unique_ptr<Weight> nf4_weight(std::int64_t outputs, std::int64_t inputs);
  const Weight& head_weight();
  DeviceCase decode_linear(std::int64_t outputs, std::int64_t inputs);
  // The linears of a decode step are others than a prompt's: they run inside a window of the
  // backend's DecodeOps, where it has them.
  void open_window();
  void close_window();
  DeviceCase sampling(const SamplingParams& params);
  struct AttentionOperands;
  AttentionOperands attention_operands();
  struct HeadOperands;
  HeadOperands head_operands();

  Backend& backend_;
  const model::Config& config_;
  std::int64_t rows_;
  bool timed_;
  std::int64_t training_rows_;
  std::int64_t head_rows_;
  bool in_window_ = false;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<std::unique_ptr<Weight>> weights_;
  std::vector<std::unique_ptr<std::vector<LoraFactors>>> adapters_;
};

struct NamedCase {
  const char* name;
  DeviceCase (DeviceBench::*make)();
  // Without weights, which are taken in turn already: several of it are, so that data comes from memory.
  bool rotates = false;
};
// All of them, in the order of the output.
std::span<const NamedCase> device_cases();

struct DeviceBenchOptions {
  std::string op;         // only operators whose name contains this
  std::int64_t rows = 8;  // of a decode step
};

// Rows, on a GPU behind its ceilings; on the software GPU a table of counters. Throws Error where no
// operator has the name, and after all others where an operator failed.
void bench_device_ops(Backend& backend, const model::Config& config,
                      const DeviceBenchOptions& options, Report& report);
// What the simplest programs reach on a GPU: copies, and cuBLASLt's products of the model's shapes.
void bench_ceilings(Backend& backend, const model::Config& config, Report& report);

}  // namespace qgrpo::bench
