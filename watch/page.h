#pragma once

#include <string>
#include <string_view>

// The page that shows runs: watch/page/, inside the program.
namespace qgrpo::watch {

std::string_view page_html();
// "?key=KEY" as it stands in an address; empty for an empty key.
std::string key_query(std::string_view key);
// The page, whose own files are asked for with that.
std::string page_for_key(std::string_view key);
std::string_view page_style();
// All its scripts in one, whose names no other script sees.
std::string page_script();

// What the served page may do: nothing but what this server itself gives.
inline constexpr std::string_view kPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// The page in one file: style, script and `data` (JSON) in it. It asks nothing of anybody; by its policy only its own
// script runs, whatever the data is.
std::string page_with_data(std::string_view data);

}  // namespace qgrpo::watch
