#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hub/cache.h"

// What the Hub answers, read. `where` names the answer in messages.
namespace qgrpo::hub {

using Headers = std::map<std::string, std::string>;  // names in lower case

// Adds one line as it came, with its end. A status line begins another answer's headers.
void add_header(Headers& headers, std::string_view line);
// The address behind rel="next" of the header Link; empty: it was the last page.
std::string next_page(const Headers& headers);
// The Hub's own words on an error: a header, or {"error": ".."} in the body. One short line.
std::string said_in(const Headers& headers, const std::string& body);

// The commit of a revision. Throws Error where there is none.
std::string read_commit(std::string_view body, const std::string& where);
// The files of a page of a commit's list. Throws Error on a path that leads out of the folder, a negative size, or
// no checksum.
std::vector<RepoFile> read_files(std::string_view body, const std::string& where);

}  // namespace qgrpo::hub
