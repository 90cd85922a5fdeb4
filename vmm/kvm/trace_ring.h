// The kernel's trace events in binary: where tracefs says an event has its fields (the `format`
// files), and the pages of a CPU's ring buffer (events/header_page and header_event; Linux
// kernel/trace/ring_buffer.c). What a kernel writes is input like any other.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

struct EventField {
  std::string name;
  std::size_t offset = 0;
  std::size_t size = 0;
  bool located = false;  // __data_loc: the field says where in the event its bytes are
};

// A kind of events, of which all begin with its number in two bytes.
struct EventFormat {
  static constexpr std::size_t kMaxFields = 64;
  static constexpr std::size_t kMaxEvent = 64u << 10;  // bytes of one event

  // events/SYSTEM/NAME/format. A Host error for a text that is none.
  static Result<EventFormat> parse(std::string_view text);
  bool has(std::string_view name) const { return find(name) != nullptr; }
  // The field of that name as a number without a sign; nothing where `event` is too short for it.
  std::optional<std::uint64_t> number(std::string_view name,
                                      std::span<const std::uint8_t> event) const;
  // A string in place or elsewhere in the event, up to its NUL: of `limit` bytes at most.
  std::string text(std::string_view name, std::span<const std::uint8_t> event,
                   std::size_t limit) const;

  std::uint16_t id = 0;
  std::vector<EventField> fields;

 private:
  const EventField* find(std::string_view name) const;
};

// events/header_page: what one read of trace_pipe_raw gives.
struct RingPage {
  std::size_t commit_offset = 8;
  std::size_t commit_size = 8;
  std::size_t data_offset = 16;
  std::size_t size = 4096;

  static Result<RingPage> parse(std::string_view text);
  // Tells of each event that `page` holds: its time by the instance's trace clock, and its bytes.
  // Stops where the page makes no sense.
  void each(
      std::span<const std::uint8_t> page,
      const std::function<void(std::uint64_t time, std::span<const std::uint8_t>)>& event) const;
};

}  // namespace vmm
