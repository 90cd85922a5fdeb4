#include "vmm/matrix/report_html.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <unordered_map>

#include "vmm/base/check.h"
#include "vmm/base/sha256.h"
#include "vmm/matrix/base64.h"
#include "vmm/matrix/clean_text.h"
#include "vmm/matrix/page_source.h"
#include "vmm/matrix/summary.h"

namespace vmm {
namespace {

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : clean_line(text)) {
    if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '&')
      result += "&amp;";
    else if (c == '"')
      result += "&quot;";
    else
      result += c;
  }
  return result;
}

// 'sha256-...', as a policy names the script that may run.
std::string source_hash(std::string_view text) {
  const std::string hex = sha256_hex(text);
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoul(hex.substr(i, 2), nullptr, 16));
  return fmt::format("'sha256-{}'", base64(bytes));
}

// "guest-tests/all.toml · pvm, Linux 6.18.44 · vmm 0.1.0 · ..."
std::string facts(const RunRecord& run) {
  const RunHeader& header = run.header;
  std::string text;
  const auto add = [&](const std::string& fact) {
    if (!fact.empty())
      text += fmt::format("{}<span>{}</span>", text.empty() ? "" : " \xc2\xb7 ", escaped(fact));
  };
  add(header.file);
  if (header.cells.size() < header.all_cells)
    add(fmt::format("{} of the matrix's {} cells", header.cells.size(), header.all_cells));
  add(header.selection);
  add(header.host);
  if (!header.vmm.empty()) add("vmm " + header.vmm);
  add(date_text(header.started));
  if (run.finished > header.started)
    add(duration_text(run.finished - header.started));
  else if (run.finished == 0)
    add("interrupted");
  if (!header.digest.empty()) add("matrix " + header.digest.substr(0, 12));
  return text;
}

// What there is without JavaScript.
std::string plain_table(const RunRecord& run) {
  std::unordered_map<std::string_view, const CellRecord*> cells;
  for (const CellRecord& cell : run.cells) cells.emplace(cell.id, &cell);
  std::string text =
      "<table class=\"plain\"><thead><tr><th>cell<th>verdict<th>reason</thead><tbody>\n";
  for (const std::string& id : run.header.cells) {
    const auto cell = cells.find(id);
    text += fmt::format("<tr><td>{}", escaped(id));
    if (cell == cells.end())
      text += "<td>not run<td>\n";
    else
      text += fmt::format("<td>{}<td>{}\n", verdict_word(cell->second->verdict),
                          escaped(cell->second->reason));
  }
  return text + "</tbody></table>";
}

// The frame with each {{NAME}} replaced; what is put in is not looked at again.
std::string filled(std::string_view frame,
                   const std::unordered_map<std::string, std::string>& parts) {
  std::string page;
  while (true) {
    const std::size_t begin = frame.find("{{");
    page += frame.substr(0, begin);
    if (begin == frame.npos) return page;
    const std::size_t end = frame.find("}}", begin);
    VMM_CHECK(end != frame.npos, "page.html has {{ without }}");
    const auto part = parts.find(std::string(frame.substr(begin + 2, end - begin - 2)));
    VMM_CHECK(part != parts.end(), "page.html asks for a part that there is not");
    page += part->second;
    frame.remove_prefix(end + 2);
  }
}

}  // namespace

Result<std::string> html_report(const RunRecord& run, const std::string& run_directory,
                                const PageLimits& limits) {
  const RunFiles files = VMM_TRY(RunFiles::open(run_directory));
  const std::string script = page_script();
  const std::string style(page_style());
  std::unordered_map<std::string, std::string> parts = {
      {"title", escaped(fmt::format("{}: {}", run.header.matrix, counts_line(run)))},
      {"name", escaped(run.header.matrix)},
      {"facts", facts(run)},
      {"counts", escaped(counts_line(run))},
      {"style", style},
      {"script", script},
      {"table", plain_table(run)},
      {"policy", fmt::format("default-src 'none'; script-src {}; style-src {}; img-src data:; "
                             "base-uri 'none'; form-action 'none'",
                             source_hash(script), source_hash(style))},
      {"data", ""}};
  const std::size_t frame = filled(page_frame(), parts).size();
  parts["data"] = embedded_json(page_data(run, &files, frame, limits));
  return filled(page_frame(), parts);
}

}  // namespace vmm
