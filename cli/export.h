#pragma once

#include <iosfwd>

#include "cli/common.h"
#include "export/export.h"

namespace qgrpo::cli {

struct ExportCommandOptions {
  exporting::ExportOptions options;
  std::string to;                  // merged | bnb-4bit | gguf
  std::string gguf_type = "Q8_0";  // exporting::kGgufFormatNames
  bool modelfile = false;          // gguf: exporting::modelfile() beside the file
  std::string merge_into = "original";
  std::string max_shard_size = "5GB";
  std::int64_t threads = 0;
};

// Writes a model, with an adapter merged into it, in another format; reads it back and compares it
// with its source on the CPU; then says "saved". Throws Error, leaving no output, where any of that
// fails. Returns 0.
int run_export(ExportCommandOptions command, std::ostream& out);

}  // namespace qgrpo::cli
