// Counts the verdict lines of kvm-unit-tests on their way to the console.
#pragma once

#include <array>
#include <cstdint>

#include "vmm/core/byte_stream.h"

namespace vmm {

struct TestVerdicts {
  std::uint64_t passed = 0;   // lines that begin with "PASS"
  std::uint64_t failed = 0;   // "FAIL", expected ones ("XFAIL") not among them
  std::uint64_t skipped = 0;  // "SKIP"
  bool operator==(const TestVerdicts&) const = default;
};

// Passes bytes on to `sink`, which outlives this, and counts each line once it has its four
// characters. A byte that the sink refuses is not counted: it comes again.
class VerdictCounter final : public ByteSink {
 public:
  explicit VerdictCounter(ByteSink& sink) : sink_(sink) {}
  bool put(std::uint8_t byte) override;
  const TestVerdicts& verdicts() const { return verdicts_; }

 private:
  ByteSink& sink_;
  std::array<char, 4> start_{};
  unsigned column_ = 0;  // at most 4
  TestVerdicts verdicts_;
};

}  // namespace vmm
