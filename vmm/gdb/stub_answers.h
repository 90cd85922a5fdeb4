// The answers that several packets have in common.
#pragma once

#include <string>

#include "vmm/base/result.h"

namespace vmm::gdb {

inline constexpr char kBadArguments[] = "E22";
inline constexpr char kNoSuchThread[] = "E03";
inline constexpr char kNoMemory[] = "E14";

// The form of an error that has words.
inline std::string refusal(const Error& error) { return "E." + error.text(); }
inline std::string done_or_refusal(const Result<void>& result) {
  return result ? "OK" : refusal(result.error());
}

}  // namespace vmm::gdb
