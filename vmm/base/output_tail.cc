#include "vmm/base/output_tail.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <vector>

#include "vmm/base/text.h"

namespace vmm {

void LineTail::add(std::span<const std::uint8_t> bytes) {
  for (const std::uint8_t byte : bytes) {
    if (byte == '\n') {
      if (!trim(current_).empty()) {
        lines_.push_back(std::move(current_));
        if (lines_.size() > kMaxLines) lines_.pop_front();
      }
      current_.clear();
    } else if (byte != '\r' && current_.size() < kMaxLine) {
      current_.push_back(static_cast<char>(byte));
    }
  }
}

std::string LineTail::last(std::size_t count) const {
  std::vector<std::string_view> wanted(lines_.begin(), lines_.end());
  if (!trim(current_).empty()) wanted.push_back(current_);
  std::string text;
  for (std::size_t i = wanted.size() - std::min(count, wanted.size()); i < wanted.size(); ++i) {
    if (!text.empty()) text += " | ";
    text += printable(trim(wanted[i]), kMaxLine);
  }
  return text;
}

OutputTail::OutputTail(Fd source, Fd log) : source_(std::move(source)), log_(std::move(log)) {
  const int flags = ::fcntl(source_.get(), F_GETFL);
  if (flags >= 0) ::fcntl(source_.get(), F_SETFL, flags | O_NONBLOCK);
}

void OutputTail::drain() {
  // At most 4 MiB at a time: a writer that never stops must not keep its reader here for ever.
  std::array<std::uint8_t, 65536> buffer;
  for (int round = 0; round < 64 && source_; ++round) {
    const ssize_t count = ::read(source_.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (count <= 0) {
      source_.reset();
      return;
    }
    const std::span<const std::uint8_t> bytes(buffer.data(), static_cast<std::size_t>(count));
    tail_.add(bytes);
    copy_to_log(bytes);
  }
}

void OutputTail::copy_to_log(std::span<const std::uint8_t> bytes) {
  while (log_ && !bytes.empty()) {
    if (logged_ >= kMaxLog) {
      log_.reset();
      return;
    }
    const ssize_t count = ::write(log_.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      log_.reset();
      return;
    }
    logged_ += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

}  // namespace vmm
