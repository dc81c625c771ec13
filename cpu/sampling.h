#pragma once

#include <span>
#include <utility>
#include <vector>

#include "cpu/gemm.h"
#include "cpu/layer_context.h"
#include "model/ops/ops.h"

// The sampler. A token is drawn from the distribution that cpu/reference/sampling.h specifies
// (transformers' logits processors), by inverting its cumulative sum, in the order of the ids, at
// one uniform number, sampling_uniform (model/ops/sampling.h). The sums run in a fixed order over
// the row alone: neither neighbours nor threads change a token.

namespace qgrpo::cpu {

// Memory of one thread for a row, kept from call to call.
struct SampleScratch {
  struct Candidate {
    float z;  // logit / temperature
    std::int32_t id;
    double weight;  // exp(z - the largest z)
  };
  std::vector<double> block_sums;
  std::vector<float> values;
  std::vector<Candidate> candidates;
  std::vector<std::pair<std::int32_t, float>> penalized;  // id, the logit before
};

// Draws one token from a row of logits. The repetition penalty changes the logits during the call
// and puts them back before it returns. logprob and policy_logprob are row_logprob (cpu/head.h) of
// the unpenalized logits, so policy_logprob has the bits of head_logprob at the same temperature;
// sampled_logprob equals it where nothing is penalized or cut off, and is 0 when greedy.
// Error: a logit is NaN or infinite; a parameter out of range; an id in `seen` outside the
// vocabulary.
SampledToken sample_row(const GemmContext& gemm, const LayerKernels& kernels,
                        std::span<float> logits, const SampleRequest& request,
                        SampleScratch& scratch);

// RolloutOps::head_sample. The logits of each hidden row are computed once, however many requests
// name it; scratch holds one a thread.
void head_sample(GemmContext& gemm, LayerContext& layer, std::span<SampleScratch> scratch,
                 std::span<SampledToken> out, ConstTensorView hidden, const Linear& head,
                 std::span<const SampleRequest> requests);

}  // namespace qgrpo::cpu
