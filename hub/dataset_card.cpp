#include <algorithm>
#include <map>

#include "hub/dataset.h"
#include "model/ops/error.h"

// The "configs" in a data set's card.
namespace qgrpo::hub {
namespace {

// A value of the part of YAML that is read: a word, a list, or a map, whose values are `items` as well.
struct Yaml {
  std::string word;
  std::vector<std::string> keys;  // of a map
  std::vector<Yaml> items;

  const Yaml* find(std::string_view key) const {
    const auto found = std::find(keys.begin(), keys.end(), key);
    return found == keys.end() ? nullptr : &items[static_cast<std::size_t>(found - keys.begin())];
  }
};

struct Line {
  std::size_t indent = 0;
  std::string text;
};

std::string_view stripped(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

class YamlReader {
 public:
  YamlReader(std::vector<Line> lines, std::string where)
      : lines_(std::move(lines)), where_(std::move(where)) {}

  // All lines.
  Yaml read() {
    Yaml out = block(lines_.empty() ? 0 : lines_.front().indent, 0);
    if (at_ < lines_.size()) fail_at();
    return out;
  }

 private:
  [[noreturn]] void fail_at() const {
    fail("{}: its \"configs\" are not understood at \"{}\"; give files instead of the name", where_,
         at_ < lines_.size() ? lines_[at_].text : "the end");
  }

  static bool is_item(const Line& line) { return line.text == "-" || line.text.starts_with("- "); }

  // The lines from here on that begin at `indent`.
  Yaml block(std::size_t indent, int depth) {
    constexpr int kDeepest = 16;
    if (depth > kDeepest) fail_at();
    Yaml out;
    if (at_ >= lines_.size()) return out;
    if (is_item(lines_[at_])) {
      while (at_ < lines_.size() && lines_[at_].indent == indent && is_item(lines_[at_])) {
        Line& line = lines_[at_];
        const std::string_view rest = stripped(std::string_view(line.text).substr(1));
        if (rest.empty()) {
          ++at_;
          out.items.push_back(below(indent, depth));
        } else if (key_end(rest) == rest.npos && !is_item({0, std::string(rest)})) {
          out.items.push_back(word(rest));
          ++at_;
        } else {  // a map or a list that begins on this line
          const std::size_t column = indent + (line.text.size() - rest.size());
          line = {column, std::string(rest)};
          out.items.push_back(block(column, depth + 1));
        }
      }
      return out;
    }
    while (at_ < lines_.size() && lines_[at_].indent == indent && !is_item(lines_[at_])) {
      const std::string text = lines_[at_].text;
      const std::size_t colon = key_end(text);
      if (colon == text.npos) fail_at();
      const std::string_view value = stripped(std::string_view(text).substr(colon + 1));
      const std::string key = word(stripped(std::string_view(text).substr(0, colon))).word;
      ++at_;
      out.keys.push_back(key);
      out.items.push_back(value.empty() ? below(indent, depth) : word(value));
    }
    return out;
  }

  // What belongs to a key or a dash: deeper lines, or a list at the same depth.
  Yaml below(std::size_t indent, int depth) {
    if (at_ >= lines_.size()) return {};
    const Line& next = lines_[at_];
    if (next.indent > indent || (next.indent == indent && is_item(next)))
      return block(next.indent, depth + 1);
    return {};
  }

  // Where a key's colon is.
  static std::size_t key_end(std::string_view text) {
    if (text.starts_with('{') || text.starts_with('[')) return text.npos;
    if (text.starts_with('"') || text.starts_with('\'')) {
      const std::size_t close = text.find(text[0], 1);
      return close != text.npos && text.substr(close + 1).starts_with(':') ? close + 1 : text.npos;
    }
    const std::size_t colon = text.find(": ");
    return colon == text.npos && text.ends_with(':') ? text.size() - 1 : colon;
  }

  Yaml word(std::string_view text) {
    Yaml out;
    if (text.starts_with('[')) {
      const std::size_t close = text.rfind(']');
      if (close == text.npos) fail_at();
      text = text.substr(1, close - 1);
      while (!stripped(text).empty()) {
        const std::size_t comma = std::min(text.find(','), text.size());
        out.items.push_back(word(stripped(text.substr(0, comma))));
        text.remove_prefix(std::min(comma + 1, text.size()));
      }
      return out;
    }
    if (text.starts_with('"') || text.starts_with('\'')) {
      const std::size_t close = text.find(text[0], 1);
      if (close == text.npos) fail_at();
      out.word = std::string(text.substr(1, close - 1));
      return out;
    }
    if (text.starts_with('{') || text.starts_with('|') || text.starts_with('>') ||
        text.starts_with('&'))
      fail_at();
    if (const std::size_t comment = text.find(" #"); comment != text.npos)
      text = stripped(text.substr(0, comment));
    out.word = std::string(text);
    return out;
  }

  std::vector<Line> lines_;
  std::string where_;
  std::size_t at_ = 0;
};

// The lines below "configs:" in the card's header.
std::vector<Line> config_lines(std::string_view card) {
  std::vector<Line> out;
  bool header = false;
  bool inside = false;
  for (std::size_t begin = 0; begin < card.size();) {
    const std::size_t end = std::min(card.find('\n', begin), card.size());
    const std::string_view line = card.substr(begin, end - begin);
    begin = end + 1;
    const std::string_view text = stripped(line);
    if (text == "---") {
      if (header) break;
      header = true;
      continue;
    }
    if (!header && !text.empty()) break;  // no header
    if (text.empty() || text.starts_with('#')) continue;
    const std::size_t indent = line.find_first_not_of(' ');
    if (indent == 0 && !text.starts_with('-')) {
      inside = text == "configs:";
    } else if (inside) {
      out.push_back({indent, std::string(text)});
    }
  }
  return out;
}

std::vector<std::string> patterns_of(const Yaml& value) {
  std::vector<std::string> out;
  if (!value.word.empty()) out.push_back(value.word);
  for (const Yaml& item : value.items) {
    if (!item.word.empty()) out.push_back(item.word);
  }
  return out;
}

}  // namespace

std::vector<DatasetConfig> read_dataset_configs(std::string_view card, const std::string& where) {
  std::vector<DatasetConfig> out;
  for (const Yaml& config : YamlReader(config_lines(card), where).read().items) {
    DatasetConfig made;
    if (const Yaml* name = config.find("config_name")) made.name = name->word;
    if (const Yaml* is_default = config.find("default"))
      made.is_default = is_default->word == "true";
    const Yaml* files = config.find("data_files");
    if (files != nullptr) {
      bool by_split = !files->keys.empty();
      for (std::size_t i = 0; i < files->keys.size(); ++i)
        made.splits.emplace_back(files->keys[i], patterns_of(files->items[i]));
      for (const Yaml& item : files->items) {
        const Yaml* split = item.find("split");
        const Yaml* path = item.find("path");
        if (split == nullptr || path == nullptr) continue;
        by_split = true;
        made.splits.emplace_back(split->word, patterns_of(*path));
      }
      if (!by_split) made.splits.emplace_back("train", patterns_of(*files));
    } else if (const Yaml* folder = config.find("data_dir")) {
      made.splits.emplace_back("train", std::vector<std::string>{folder->word + "/**"});
    }
    out.push_back(std::move(made));
  }
  return out;
}

}  // namespace qgrpo::hub
