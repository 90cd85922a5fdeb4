// What a child process or a guest's console writes: the last lines kept, the rest forgotten, a copy
// in a log file if one is wanted. However much comes, memory and the file stay bounded.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>

#include "vmm/base/fd.h"

namespace vmm {

class LineTail {
 public:
  static constexpr std::size_t kMaxLines = 20;
  static constexpr std::size_t kMaxLine = 300;  // bytes; the rest of a longer line is dropped

  void add(std::span<const std::uint8_t> bytes);
  // The last `count` lines that are not empty, made safe for a terminal, joined by " | ".
  std::string last(std::size_t count = kMaxLines) const;

 private:
  std::deque<std::string> lines_;
  std::string current_;
};

class OutputTail {
 public:
  static constexpr std::uint64_t kMaxLog = 64ull << 20;  // bytes of a log file

  OutputTail() = default;
  // `source` is the read end of a pipe or a socket; it is made non-blocking. `log`, if it is open,
  // receives a copy; a full disk ends the copy and nothing else.
  OutputTail(Fd source, Fd log);

  // Takes in what is there without waiting. Called from time to time, or when fd() is readable.
  void drain();
  // The source; -1 once its other end is closed.
  int fd() const { return source_.get(); }
  const LineTail& tail() const { return tail_; }

 private:
  void copy_to_log(std::span<const std::uint8_t> bytes);

  Fd source_;
  Fd log_;
  std::uint64_t logged_ = 0;
  LineTail tail_;
};

}  // namespace vmm
