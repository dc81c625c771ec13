// A Hugging Face folder with the adapter merged into the weights.
#include "export/export.h"
#include "export/hugging_face.h"
#include "export/output.h"
#include "export/produce_in_order.h"
#include "model/io/safetensors.h"

namespace qgrpo::exporting {

void write_merged(MergedWeights& weights, const ExportOptions& options, const std::string& folder,
                  const RecordTensor& record, const ExportProgress& progress) {
  struct Item {
    std::vector<float> source;
    std::vector<std::byte> bytes;
  };
  const auto& tensors = weights.tensors();
  SafetensorsFolder out(folder, options.max_shard_bytes);
  produce_in_order<Item>(
      options.threads, tensors.size(),
      [&](std::size_t i) {
        Item item;
        item.source = weights.values(tensors[i]);
        item.bytes = to_dtype(item.source, tensors[i].dtype, tensors[i].name);
        return item;
      },
      [&](std::size_t i, Item item) {
        const ConstTensorView view{item.bytes.data(), tensors[i].dtype, tensors[i].shape};
        out.add({{tensors[i].name, view}});
        record(tensors[i], item.source, io::to_float(view));
        weights.drop_pages();
        if (progress) {
          progress("merging", static_cast<double>(i + 1) / static_cast<double>(tensors.size()));
        }
      });
  out.finish();
  write_folder_files(weights, folder);
}

}  // namespace qgrpo::exporting
