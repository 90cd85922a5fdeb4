// State is visited by name: one visit(Archive&) per device lists its fields, and the same list
// saves, loads, prints and compares.
//
//   void visit(Archive& a) { a.block("serial16550", 1); a("ier", s_.ier)("lcr", s_.lcr); }
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// The saved form of one device: readable text, "name" -> "hex digits", in visiting order.
struct StateBlock {
  std::string kind;
  std::uint32_t version = 0;
  std::vector<std::pair<std::string, std::string>> fields;

  bool operator==(const StateBlock&) const = default;
  // "kind v1" and one "  name = value" line a field.
  std::string print() const;
};

class Archive {
 public:
  virtual ~Archive() = default;

  // Opens the block: its kind and the version of its field list.
  virtual void block(std::string_view kind, std::uint32_t version) = 0;

  // Numbers, bools, enums and durations.
  template <typename T>
  requires std::integral<T> || std::is_enum_v<T> Archive& operator()(std::string_view name,
                                                                     T& value) {
    auto wide = static_cast<std::uint64_t>(value);
    number(name, wide, std::same_as<T, bool> ? 1U : static_cast<unsigned>(sizeof(T) * 8));
    value = static_cast<T>(wide);
    return *this;
  }
  template <typename Rep, typename Period>
  Archive& operator()(std::string_view name, std::chrono::duration<Rep, Period>& value) {
    Rep count = value.count();
    (*this)(name, count);
    value = std::chrono::duration<Rep, Period>(count);
    return *this;
  }
  // Byte sequences; the length of the fixed one is part of the format.
  template <std::size_t N>
  Archive& operator()(std::string_view name, std::array<std::uint8_t, N>& value) {
    std::vector<std::uint8_t> copy(value.begin(), value.end());
    bytes(name, copy, N, N);
    if (copy.size() == N) std::copy(copy.begin(), copy.end(), value.begin());
    return *this;
  }
  // A queue or buffer of at most `max` bytes (more in a saved state is an error).
  template <typename Container>
  requires std::same_as<Container, std::vector<std::uint8_t>> ||
      std::same_as<Container, std::deque<std::uint8_t>>
          Archive& operator()(std::string_view name, Container& value, std::size_t max) {
    std::vector<std::uint8_t> copy(value.begin(), value.end());
    bytes(name, copy, 0, max);
    value.assign(copy.begin(), copy.end());
    return *this;
  }
  // Absent or a number.
  template <typename T>
  Archive& operator()(std::string_view name, std::optional<T>& value) {
    bool present = value.has_value();
    (*this)(std::string(name) + ".present", present);
    T held = value.value_or(T{});
    if (present) (*this)(name, held);
    value = present ? std::optional<T>(held) : std::nullopt;
    return *this;
  }

 protected:
  virtual void number(std::string_view name, std::uint64_t& value, unsigned bits) = 0;
  virtual void bytes(std::string_view name, std::vector<std::uint8_t>& value, std::size_t min,
                     std::size_t max) = 0;
};

// Collects a StateBlock.
class SaveArchive final : public Archive {
 public:
  void block(std::string_view kind, std::uint32_t version) override;
  const StateBlock& state() const { return state_; }

 protected:
  void number(std::string_view name, std::uint64_t& value, unsigned bits) override;
  void bytes(std::string_view name, std::vector<std::uint8_t>& value, std::size_t min,
             std::size_t max) override;

 private:
  StateBlock state_;
};

// Puts a StateBlock back. A missing, unknown or out-of-range field leaves the value as it was and
// is reported by finish().
class LoadArchive final : public Archive {
 public:
  explicit LoadArchive(const StateBlock& state) : state_(state) {}
  void block(std::string_view kind, std::uint32_t version) override;
  // The first thing that did not fit, or an unread field.
  Result<void> finish() const;

 protected:
  void number(std::string_view name, std::uint64_t& value, unsigned bits) override;
  void bytes(std::string_view name, std::vector<std::uint8_t>& value, std::size_t min,
             std::size_t max) override;

 private:
  const std::string* next(std::string_view name);
  void refuse(std::string text);

  const StateBlock& state_;
  std::size_t position_ = 0;
  std::optional<std::string> problem_;
};

template <typename T>
StateBlock save_state(T& object) {
  SaveArchive archive;
  object.visit(archive);
  return archive.state();
}

template <typename T>
Result<void> load_state(T& object, const StateBlock& state) {
  LoadArchive archive(state);
  object.visit(archive);
  return archive.finish();
}

// One line "name: old -> new" for each field in which two blocks of one kind differ.
std::vector<std::string> diff(const StateBlock& before, const StateBlock& after);

}  // namespace vmm
