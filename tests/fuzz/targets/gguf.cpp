// A GGUF file: its container, the model's configuration, the tokenizer and the tensors.
#include "model/io/gguf.h"

#include "fuzz/target.h"
#include "model/formats/checkpoint.h"
#include "model/gguf_config.h"
#include "model/io/gguf_quants.h"
#include "model/ops/error.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/sentencepiece_tokenizer.h"

using namespace qgrpo;

namespace {

// Each part for itself: one that is refused does not hide the next.
template <typename Call>
void attempt(const Call& call) {
  try {
    call();
  } catch (const Error&) {
  }
}

void dequantize(const io::GgufFile& file, const std::string& name) {
  const io::GgufTensor& tensor = file.tensor(name);
  const auto data = file.data(tensor);
  const auto type = static_cast<io::GgmlType>(tensor.type);
  if (type == io::GgmlType::f32 || type == io::GgmlType::f16 || type == io::GgmlType::bf16) return;
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
  io::ggml_dequantize(values, type, data.data());
}

}  // namespace

QGRPO_FUZZ_TARGET(gguf) {
  static fuzz::MemoryFile memory;
  memory.set(input);
  const io::GgufFile file(memory.path());
  for (const auto& entry : file.tensors()) attempt([&] { dequantize(file, entry.first); });
  attempt([&] { model::gguf_sampling(file); });
  attempt([&] {
    const tokenizer::BpeTokenizer bpe(tokenizer::read_gguf_tokenizer(file));
    bpe.decode(bpe.encode("to be, or not <|im_end|> to be", tokenizer::SpecialText::kParse,
                          tokenizer::TokensAround::kAdd));
  });
  attempt([&] {
    if (!tokenizer::has_gguf_sentencepiece(file)) return;
    const auto pieces = tokenizer::load_gguf_sentencepiece(file);
    pieces->decode(pieces->encode("to be, or not </s> to be", tokenizer::SpecialText::kParse,
                                  tokenizer::TokensAround::kAdd));
  });
  const model::Config config = model::gguf_config(file);
  model::check_config(config, "a configuration that was read");
}
