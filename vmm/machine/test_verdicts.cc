#include "vmm/machine/test_verdicts.h"

#include <string_view>

namespace vmm {

bool VerdictCounter::put(std::uint8_t byte) {
  if (!sink_.put(byte)) return false;
  if (byte == '\n' || byte == '\r') {
    column_ = 0;
    return true;
  }
  if (column_ == start_.size()) return true;
  start_[column_++] = static_cast<char>(byte);
  if (column_ < start_.size()) return true;
  const std::string_view word(start_.data(), start_.size());
  if (word == "PASS") ++verdicts_.passed;
  if (word == "FAIL") ++verdicts_.failed;
  if (word == "SKIP") ++verdicts_.skipped;
  return true;
}

}  // namespace vmm
