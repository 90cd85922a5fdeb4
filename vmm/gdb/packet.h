// The framing of GDB's remote serial protocol (the GDB manual, appendix "Remote Protocol", section
// "Overview"): packets out of a byte stream that may hold anything, and packets into one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "vmm/base/units.h"

namespace vmm::gdb {

// The longest payload that is taken, and what qSupported promises: a read of 64 KiB fits in hex.
constexpr std::size_t kPacketSize = 128_KiB + 64;

struct Packet {
  std::string payload;  // unescaped
  bool operator==(const Packet&) const = default;
};
struct Interrupt {  // 03h between packets: the user's Ctrl-C
  bool operator==(const Interrupt&) const = default;
};
struct Ack {
  bool operator==(const Ack&) const = default;
};
struct Nack {  // the last packet is to be sent once more
  bool operator==(const Nack&) const = default;
};
struct Damaged {  // a packet that is not taken: a wrong checksum, or too long
  std::string why;
  bool operator==(const Damaged&) const = default;
};
using Event = std::variant<Packet, Interrupt, Ack, Nack, Damaged>;

// Holds at most one packet of kPacketSize; bytes that belong to nothing are dropped.
class PacketReader {
 public:
  // What `bytes` complete, in their order.
  std::vector<Event> push(std::span<const std::uint8_t> bytes);
  // Without acknowledgements nothing could be sent again: checksums are not looked at.
  void ignore_checksums() { checked_ = false; }

 private:
  enum class At { Outside, Payload, Escaped, Checksum1, Checksum2 };
  void take(std::uint8_t byte, std::vector<Event>& events);
  void begin();
  void append(std::uint8_t byte);
  Event finish() const;

  At at_ = At::Outside;
  bool checked_ = true;
  bool too_long_ = false;
  std::uint8_t sum_ = 0;
  std::uint8_t first_digit_ = 0;
  bool bad_digit_ = false;
  std::uint8_t expected_ = 0;
  std::string payload_;
};

// "$...#xx": binary content is escaped.
std::string frame(std::string_view payload);

// Two lower-case digits a byte, in the order of memory.
std::string to_hex(std::span<const std::uint8_t> bytes);
std::string to_hex(std::string_view text);
// Nothing for an odd number of digits or another character.
std::optional<std::vector<std::uint8_t>> from_hex(std::string_view digits);
// A number as packets write it: 1 to 16 hexadecimal digits, the highest first.
std::optional<std::uint64_t> parse_number(std::string_view digits);

// Reads a packet's arguments from the left; what does not fit makes it fail for good.
class Arguments {
 public:
  explicit Arguments(std::string_view text) : rest_(text) {}
  // Digits up to the first character that is none.
  std::uint64_t number();
  // That very character.
  void expect(char c);
  bool accept(char c);
  bool accept(std::string_view word);
  // Everything up to `end` or the end of the packet, which are not part of it.
  std::string_view until(char end);
  // So many characters.
  std::string_view take(std::size_t count);
  std::string_view rest() const { return rest_; }
  bool at_end() const { return rest_.empty(); }
  // All arguments were as expected so far.
  bool good() const { return good_; }

 private:
  std::string_view rest_;
  bool good_ = true;
};

}  // namespace vmm::gdb
