#include "vmm/matrix/line_pattern.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include "vmm/base/text.h"

namespace vmm {

Result<LinePattern> LinePattern::compile(const std::string& text) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(1 << 20);  // bytes; a pattern that needs more is refused
  auto expression = std::make_shared<const re2::RE2>(text, options);
  if (!expression->ok())
    return fail(Error::usage(fmt::format("'{}' is no regular expression: {}", printable(text, 100),
                                         printable(expression->error(), 200)))
                    .hint("docs/matrix.md: RE2's syntax; a literal . ( [ needs a \\ before it"));
  return LinePattern(text, std::move(expression));
}

bool LinePattern::matches(std::string_view line) const {
  return re2::RE2::PartialMatch(re2::StringPiece(line.data(), line.size()), *expression_);
}

bool glob_matches(std::string_view pattern, std::string_view text) {
  // The last star takes in one character more whenever what follows it does not fit.
  std::size_t at = 0, from = 0, star = pattern.npos, star_text = 0;
  while (from < text.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      star_text = from;
    } else if (at < pattern.size() && (pattern[at] == '?' || pattern[at] == text[from])) {
      ++at;
      ++from;
    } else if (star != pattern.npos) {
      at = star + 1;
      from = ++star_text;
    } else {
      return false;
    }
  }
  while (at < pattern.size() && pattern[at] == '*') ++at;
  return at == pattern.size();
}

}  // namespace vmm
