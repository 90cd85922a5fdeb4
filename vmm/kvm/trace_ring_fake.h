// For tests: pages of a ring buffer made by hand, and the descriptions that Linux 6.1 and 6.18
// give.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/bytes.h"

namespace vmm {

constexpr std::string_view kHeaderPageText =
    "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
    "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
    "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
    "\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n";

// A format file: the fields that all have, then `fields`.
inline std::string format_text(std::string_view name, unsigned id, std::string_view fields) {
  return "name: " + std::string(name) + "\nID: " + std::to_string(id) +
         "\nformat:\n"
         "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
         "\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
         "\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
         "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n" +
         std::string(fields) + "\nprint fmt: \"field:int never;\toffset:0;\tsize:4;\", REC->x\n";
}

constexpr std::string_view kExitFields =
    "\tfield:unsigned int exit_reason;\toffset:8;\tsize:4;\tsigned:0;\n"
    "\tfield:unsigned long guest_rip;\toffset:16;\tsize:8;\tsigned:0;\n"
    "\tfield:u32 isa;\toffset:24;\tsize:4;\tsigned:0;\n";
constexpr std::string_view kInjectFields =
    "\tfield:__u32 exit_code;\toffset:8;\tsize:4;\tsigned:0;\n"
    "\tfield:__u64 exit_info1;\toffset:16;\tsize:8;\tsigned:0;\n"
    "\tfield:__u32 isa;\toffset:24;\tsize:4;\tsigned:0;\n";
constexpr std::string_view kFailedFields =
    "\tfield:__data_loc char[] msg;\toffset:8;\tsize:4;\tsigned:0;\n"
    "\tfield:u32 err;\toffset:12;\tsize:4;\tsigned:0;\n";
constexpr std::string_view kPrintFields =
    "\tfield:unsigned long ip;\toffset:8;\tsize:8;\tsigned:0;\n"
    "\tfield:char buf[];\toffset:16;\tsize:0;\tsigned:0;\n";

// The bytes of one event: its number, its thread, and what follows.
class EventBytes {
 public:
  EventBytes(std::uint16_t id, std::int32_t thread) : bytes_(8) {
    store(std::span(bytes_), 0, id);
    store(std::span(bytes_), 4, thread);
  }
  template <typename T>
  EventBytes& put(std::size_t offset, T value) {
    if (bytes_.size() < offset + sizeof value) bytes_.resize(offset + sizeof value);
    store(std::span(bytes_), offset, value);
    return *this;
  }
  EventBytes& text(std::string_view text) {
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    bytes_.push_back(0);
    return *this;
  }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
};

class PageBuilder {
 public:
  explicit PageBuilder(std::uint64_t time) : bytes_(16) { store(std::span(bytes_), 0, time); }
  // The five bits and 27 bits in front of an event.
  PageBuilder& header(std::uint32_t type, std::uint32_t delta) { return word(type | delta << 5); }
  PageBuilder& word(std::uint32_t value) {
    bytes_.resize(bytes_.size() + 4);
    store(std::span(bytes_), bytes_.size() - 4, value);
    return *this;
  }
  PageBuilder& data(std::span<const std::uint8_t> data) {
    bytes_.insert(bytes_.end(), data.begin(), data.end());
    bytes_.resize(align_up(bytes_.size(), 4));
    return *this;
  }
  PageBuilder& event(const EventBytes& event, std::uint32_t delta) {
    const auto words = static_cast<std::uint32_t>((event.bytes().size() + 3) / 4);
    if (words <= 28) return header(words, delta).data(event.bytes());
    return header(0, delta)
        .word(static_cast<std::uint32_t>(event.bytes().size() + 4))
        .data(event.bytes());
  }
  // As one read(2) gives it.
  std::vector<std::uint8_t> page(std::uint64_t flags = 0) const {
    std::vector<std::uint8_t> page = bytes_;
    store(std::span(page), 8, flags | (bytes_.size() - 16));
    page.resize(4096);
    return page;
  }

 private:
  std::vector<std::uint8_t> bytes_;
};

}  // namespace vmm
