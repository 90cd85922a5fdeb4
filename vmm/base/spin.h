// Waiting a moment without giving the processor away: for what another thread is about to do.
#pragma once

#include <chrono>
#include <thread>

namespace vmm {

// Asked at the start: it reads files, which a thread behind its filter may not.
inline const bool kOneProcessor = std::thread::hardware_concurrency() < 2;

// Until `done` is true, but 0.1 ms at most: about what it takes to be woken on another processor,
// and too little to matter when it was in vain. Where there is one processor it does not wait.
template <typename Done>
bool spin_until(const Done& done) {
  if (kOneProcessor) return done();
  const auto limit = std::chrono::steady_clock::now() + std::chrono::microseconds(100);
  while (!done()) {
    for (int i = 0; i < 16; ++i) __builtin_ia32_pause();
    if (std::chrono::steady_clock::now() >= limit) return done();
  }
  return true;
}

}  // namespace vmm
