#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "model/io/json.h"
#include "model/ops/error.h"

// The files that data sets come in.
namespace qgrpo::train {

// Calls `each` with every object of a file and its text as JSON on one line, in their order. The file is JSON lines
// (blank ones are skipped), one JSON array of objects, or, by its name, a CSV (.csv) or tab-separated file (.tsv, the
// same with tabs), whose first line names the columns (train/data/files/csv.h); or a Parquet file
// (train/data/files/parquet.h). Each may be packed with gzip or zstd, known
// by the first bytes, and may begin with a byte order mark. The value knows where it stands: "FILE line 3", "FILE item
// 3" of an array, "FILE row 3" of a Parquet file. Throws Error that names the file, and the line: where it cannot be read, is none of these (of an
// Arrow file, a folder, or a name on the Hub it says how to get a file), is malformed, holds something
// else than objects, or nothing at all. With `bad`, a line that is malformed, or for which `each` throws, is handed to
// that, and reading goes on.
void read_data_file(
    const std::string& path,
    const std::function<void(const io::JsonValue& object, std::string_view text)>& each,
    const std::function<void(const Error& error)>& bad = {});

}  // namespace qgrpo::train
