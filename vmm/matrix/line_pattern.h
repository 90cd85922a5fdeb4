// A regular expression for one line of a guest's output. RE2: linear in the line, whatever the
// pattern.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "vmm/base/result.h"

namespace re2 {
class RE2;
}

namespace vmm {

class LinePattern {
 public:
  // A Usage error with RE2's words for a text that is no expression.
  static Result<LinePattern> compile(const std::string& text);

  // Whether it matches anywhere in `line`.
  bool matches(std::string_view line) const;
  const std::string& text() const { return text_; }

 private:
  LinePattern(std::string text, std::shared_ptr<const re2::RE2> expression)
      : text_(std::move(text)), expression_(std::move(expression)) {}

  std::string text_;
  std::shared_ptr<const re2::RE2> expression_;
};

// '*' stands for any text, '?' for any character, all else for itself.
bool glob_matches(std::string_view pattern, std::string_view text);

}  // namespace vmm
