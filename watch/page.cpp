#include "watch/page.h"

#include <fmt/format.h>

#include <random>

#include "model/ops/error.h"

namespace qgrpo::embedded {
extern const std::string_view watch_html;
extern const std::string_view watch_style;
extern const std::string_view watch_dom;
extern const std::string_view watch_source;
extern const std::string_view watch_plot;
extern const std::string_view watch_panels;
extern const std::string_view watch_groups;
extern const std::string_view watch_main;
}  // namespace qgrpo::embedded

namespace qgrpo::watch {
namespace {

void replace_once(std::string& text, std::string_view what, std::string_view by) {
  const std::size_t at = text.find(what);
  if (at == std::string::npos) fail("the page has no {}", what);
  text.replace(at, what.size(), by);
}

// Nobody who wrote the data can know it.
std::string nonce() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

// JSON that may stand inside <script>: there "<" ends or comments it.
std::string without_tags(std::string_view json) {
  std::string out;
  out.reserve(json.size() + json.size() / 64);
  for (const char c : json) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::string_view page_html() {
  return embedded::watch_html;
}

std::string key_query(std::string_view key) {
  if (key.empty()) return "";
  std::string query = "?key=";
  for (const char c : key) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       c == '-' || c == '_';
    query += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return query;
}

std::string page_for_key(std::string_view key) {
  std::string page(page_html());
  replace_once(page, "\"watch.css\"", fmt::format("\"watch.css{}\"", key_query(key)));
  replace_once(page, "\"watch.js\"", fmt::format("\"watch.js{}\"", key_query(key)));
  return page;
}

std::string_view page_style() {
  return embedded::watch_style;
}

std::string page_script() {
  std::string out = "(() => {\n\"use strict\";\n";
  for (const std::string_view part :
       {embedded::watch_dom, embedded::watch_source, embedded::watch_plot, embedded::watch_panels,
        embedded::watch_groups, embedded::watch_main})
    out += part;
  return out + "})();\n";
}

std::string page_with_data(std::string_view data) {
  std::string page(page_html());
  const std::string key = nonce();
  const std::string policy = fmt::format(
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src "
      "'nonce-{0}'; style-src 'nonce-{0}'; img-src data:; base-uri 'none'; form-action 'none'\">\n",
      key);
  replace_once(page, "<meta name=\"viewport\"", policy + "<meta name=\"viewport\"");
  replace_once(page, "<link rel=\"stylesheet\" href=\"watch.css\">",
               fmt::format("<style nonce=\"{}\">\n{}</style>", key, page_style()));
  replace_once(page, "<script src=\"watch.js\" defer></script>\n", "");
  replace_once(page, "</body>",
               fmt::format("<script type=\"application/json\" id=\"embedded-run\">{}</script>\n"
                           "<script nonce=\"{}\">\n{}</script>\n</body>",
                           without_tags(data), key, page_script()));
  return page;
}

}  // namespace qgrpo::watch
