#pragma once

#include <string>
#include <vector>

namespace qgrpo::train {

// The model card of a checkpoint, for its repository: README.md with the YAML header that the Hub reads (base_model,
// library_name, tags, datasets), the method, the step, the last metrics and the options that decided the result. From
// the checkpoint's own files and the run's metrics.jsonl (`metrics`; empty: the one beside the checkpoint). Paths of this machine are left
// out: a base is named where it is one of the Hub. `title`: the heading, as OWNER/NAME. `datasets`: names on the Hub.
// Empty where the folder is no checkpoint of this program.
std::string model_card(const std::string& checkpoint, const std::string& title,
                       const std::vector<std::string>& datasets = {},
                       const std::string& metrics = "");

}  // namespace qgrpo::train
