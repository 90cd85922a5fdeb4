#include "vmm/gdb/packet.h"

#include <emmintrin.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace vmm::gdb {
namespace {

constexpr std::uint8_t kInterrupt = 0x03;
constexpr char kEscape = '}';
constexpr char kEscapeBit = 0x20;

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::vector<Event> PacketReader::push(std::span<const std::uint8_t> bytes) {
  std::vector<Event> events;
  for (const std::uint8_t byte : bytes) take(byte, events);
  return events;
}

void PacketReader::begin() {
  at_ = At::Payload;
  too_long_ = bad_digit_ = false;
  sum_ = 0;
  payload_.clear();
}

void PacketReader::append(std::uint8_t byte) {
  if (payload_.size() == kPacketSize) {
    too_long_ = true;
    return;
  }
  payload_ += static_cast<char>(byte);
}

Event PacketReader::finish() const {
  if (too_long_) return Damaged{fmt::format("a packet of more than {} bytes", kPacketSize)};
  if (checked_ && bad_digit_) return Damaged{"a checksum that is no number"};
  if (checked_ && expected_ != sum_)
    return Damaged{fmt::format("checksum {:02x}, but the bytes give {:02x}", expected_, sum_)};
  return Packet{payload_};
}

void PacketReader::take(std::uint8_t byte, std::vector<Event>& events) {
  const char c = static_cast<char>(byte);
  // A packet that begins inside another one: the rest of that one was lost.
  if (c == '$' && at_ != At::Outside) return begin();
  switch (at_) {
    case At::Outside:
      if (c == '$') begin();
      if (c == '+') events.emplace_back(Ack{});
      if (c == '-') events.emplace_back(Nack{});
      if (byte == kInterrupt) events.emplace_back(Interrupt{});
      return;
    case At::Payload:
    case At::Escaped:
      if (c == '#') {
        at_ = At::Checksum1;
        return;
      }
      sum_ = static_cast<std::uint8_t>(sum_ + byte);
      if (at_ == At::Escaped) {
        append(byte ^ kEscapeBit);
        at_ = At::Payload;
      } else if (c == kEscape) {
        at_ = At::Escaped;
      } else {
        append(byte);
      }
      return;
    case At::Checksum1:
    case At::Checksum2: {
      const int value = digit_value(c);
      bad_digit_ = bad_digit_ || value < 0;
      const auto digit = static_cast<std::uint8_t>(std::max(value, 0));
      if (at_ == At::Checksum1) {
        first_digit_ = digit;
        at_ = At::Checksum2;
        return;
      }
      expected_ = static_cast<std::uint8_t>(first_digit_ << 4 | digit);
      at_ = At::Outside;
      events.push_back(finish());
      payload_.clear();
      return;
    }
  }
}

namespace {

// Memory is read by megabytes, so replies are looked at in SSE2's vectors, which every x86-64 has.
constexpr std::size_t kVector = sizeof(__m128i);

// Those of text from `at` on; past its end zeros.
__m128i vector_at(std::string_view text, std::size_t at) {
  if (text.size() - at >= kVector)
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + at));
  std::array<char, kVector> rest{};
  text.copy(rest.data(), kVector, at);
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rest.data()));
}

// All ones in each byte that must be escaped.
__m128i escapes_in(__m128i bytes) {
  const auto are = [bytes](char c) { return _mm_cmpeq_epi8(bytes, _mm_set1_epi8(c)); };
  return _mm_or_si128(_mm_or_si128(are('#'), are('$')), _mm_or_si128(are('*'), are(kEscape)));
}

// Of all bytes of the vectors that `part(at)` gives.
template <typename Part>
std::uint64_t sum_of_bytes(std::size_t size, const Part& part) {
  __m128i sums = _mm_setzero_si128();
  for (std::size_t at = 0; at < size; at += kVector)
    sums = _mm_add_epi64(sums, _mm_sad_epu8(part(at), _mm_setzero_si128()));
  sums = _mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums));
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(sums));
}

std::size_t count_escapes(std::string_view text) {
  return sum_of_bytes(text.size(), [text](std::size_t at) {
    return _mm_and_si128(escapes_in(vector_at(text, at)), _mm_set1_epi8(1));
  });
}

std::uint8_t checksum(std::string_view text) {
  return static_cast<std::uint8_t>(
      sum_of_bytes(text.size(), [text](std::size_t at) { return vector_at(text, at); }));
}

}  // namespace

std::string frame(std::string_view payload) {
  std::string out(1 + payload.size() + count_escapes(payload), '$');
  std::size_t to = 1;
  std::size_t done = 0;
  const auto copy_until = [&](std::size_t end) {
    to += payload.copy(out.data() + to, end - done, done);
    done = end;
  };
  for (std::size_t at = 0; at < payload.size(); at += kVector) {
    const int escapes = _mm_movemask_epi8(escapes_in(vector_at(payload, at)));
    for (auto left = static_cast<unsigned>(escapes); left != 0; left &= left - 1) {
      copy_until(at + static_cast<unsigned>(std::countr_zero(left)));
      out[to++] = kEscape;
      out[to++] = static_cast<char>(payload[done++] ^ kEscapeBit);
    }
  }
  copy_until(payload.size());
  const std::uint8_t sum = checksum(std::string_view(out).substr(1));
  out += fmt::format("#{:02x}", sum);
  return out;
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
  // Both digits of each byte.
  static constexpr auto kDigits = [] {
    constexpr std::string_view kDigit = "0123456789abcdef";
    std::array<std::array<char, 2>, 256> table{};
    for (std::size_t i = 0; i < table.size(); ++i) table[i] = {kDigit[i >> 4], kDigit[i & 15]};
    return table;
  }();
  std::string out(bytes.size() * 2, '0');
  char* to = out.data();
  for (const std::uint8_t byte : bytes) {
    std::memcpy(to, kDigits[byte].data(), 2);
    to += 2;
  }
  return out;
}

std::string to_hex(std::string_view text) {
  return to_hex(std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

std::optional<std::vector<std::uint8_t>> from_hex(std::string_view digits) {
  if (digits.size() % 2 != 0) return std::nullopt;
  std::vector<std::uint8_t> bytes(digits.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const int high = digit_value(digits[2 * i]);
    const int low = digit_value(digits[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return bytes;
}

std::optional<std::uint64_t> parse_number(std::string_view digits) {
  if (digits.empty() || digits.size() > 16) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : digits) {
    const int digit = digit_value(c);
    if (digit < 0) return std::nullopt;
    value = value << 4 | static_cast<unsigned>(digit);
  }
  return value;
}

std::uint64_t Arguments::number() {
  const auto end = std::ranges::find_if(rest_, [](char c) { return digit_value(c) < 0; });
  const auto size = static_cast<std::size_t>(end - rest_.begin());
  const auto value = parse_number(rest_.substr(0, size));
  rest_.remove_prefix(size);
  good_ = good_ && value.has_value();
  return value.value_or(0);
}

void Arguments::expect(char c) { good_ = accept(c) && good_; }

bool Arguments::accept(char c) { return accept(std::string_view(&c, 1)); }

bool Arguments::accept(std::string_view word) {
  if (!rest_.starts_with(word)) return false;
  rest_.remove_prefix(word.size());
  return true;
}

std::string_view Arguments::until(char end) {
  const std::string_view part = rest_.substr(0, rest_.find(end));
  rest_.remove_prefix(part.size());
  return part;
}

std::string_view Arguments::take(std::size_t count) {
  if (count > rest_.size()) good_ = false;
  const std::string_view part = rest_.substr(0, count);
  rest_.remove_prefix(part.size());
  return part;
}

}  // namespace vmm::gdb
