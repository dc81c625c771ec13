#include "watch/export.h"

#include <algorithm>
#include <set>

#include "model/io/json.h"
#include "watch/answers.h"
#include "watch/group_query.h"
#include "watch/page.h"

namespace qgrpo::watch {
namespace {

std::set<std::size_t> chosen_groups(const CompletionIndex& index, std::size_t bytes) {
  std::set<std::size_t> out;
  const std::size_t groups = index.groups().size();
  if (groups == 0) return out;
  std::size_t all = 0;
  for (const CompletionEntry& entry : index.completions()) all += entry.bytes;
  const double part =
      static_cast<double>(bytes) / static_cast<double>(std::max<std::size_t>(all, 1));
  const std::size_t count =
      part >= 1 ? groups
                : std::clamp<std::size_t>(
                      static_cast<std::size_t>(part * static_cast<double>(groups)), 2, groups);
  for (std::size_t i = 0; i < count; ++i)
    out.insert(count == 1 ? 0 : i * (groups - 1) / (count - 1));
  if (const auto pair = before_after(index)) {
    out.insert(pair->before);
    out.insert(pair->after);
  }
  return out;
}

}  // namespace

std::string exported_page(const std::vector<std::unique_ptr<Run>>& runs,
                          const ExportOptions& options) {
  io::JsonWriter w;
  w.begin_object();
  w.key("runs");
  w.begin_array();
  for (const auto& run : runs) {
    w.begin_object();
    w.key("overview");
    w.raw(overview_json(*run, /*with_places=*/false));
    w.key("curves");
    w.raw(curves_json(*run, run->metrics().keys(), StepRange(), options.entries));
    w.key("pair");
    w.raw(before_after_json(*run));
    w.key("details");
    w.raw(details_json(*run, /*with_places=*/false));
    w.key("groups");
    w.begin_array();
    for (const std::size_t group :
         chosen_groups(run->completions(), options.text_bytes / runs.size()))
      w.raw(group_json(*run, group));
    w.end_array();
    w.end_object();
  }
  w.end_array();
  w.end_object();
  return page_with_data(w.str());
}

}  // namespace qgrpo::watch
