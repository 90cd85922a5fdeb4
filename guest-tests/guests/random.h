// Numbers that look random and follow from a seed alone: xorshift64*, cheap where every instruction
// is emulated.
#pragma once

#include <stdint.h>

namespace guest {

class Random {
 public:
  // Any seed, 0 among them. Neighbouring seeds give unrelated sequences.
  explicit constexpr Random(uint64_t seed) : state_((seed + 1) * 0x9e3779b97f4a7c15) {
    if (state_ == 0) state_ = 1;  // the one state that xorshift never leaves
    for (int i = 0; i < 8; ++i) next();
  }

  constexpr uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1d;
  }
  constexpr uint32_t next32() { return static_cast<uint32_t>(next() >> 32); }
  // 0 to `limit` - 1; `limit` is not 0.
  constexpr uint32_t below(uint32_t limit) {
    return static_cast<uint32_t>((next() >> 32) * uint64_t{limit} >> 32);
  }
  // True once in `times`.
  constexpr bool one_in(uint32_t times) { return below(times) == 0; }

 private:
  uint64_t state_;
};

}  // namespace guest
