// Typed access to the members of a JSON object that nobody vouches for.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// Bytes as JSON text and back: byte XXh is the character U+00XX, so that every path survives.
std::string text_of_bytes(std::string_view bytes);
std::optional<std::string> bytes_of_text(std::string_view text);

// Reads members and remembers the first that was missing or wrong; the values read after that are
// empty ones, so that a parser asks once, at its end.
class JsonFields {
 public:
  // `text` is one object; anything else is a problem.
  explicit JsonFields(std::string_view text);
  explicit JsonFields(nlohmann::json object);

  bool has(const char* name) const;
  std::string bytes(const char* name);
  std::vector<std::string> list(const char* name);
  std::vector<std::uint64_t> numbers(const char* name);
  JsonFields object(const char* name);
  std::vector<JsonFields> objects(const char* name);
  template <typename T>
  T number(const char* name) {
    return static_cast<T>(
        unsigned_number(name, static_cast<std::uint64_t>(std::numeric_limits<T>::max())));
  }
  // Takes over the problem of a part.
  void note(const JsonFields& part);
  void problem(std::string text);
  // An error of kind Lab for the first problem.
  Result<void> result() const;

 private:
  const nlohmann::json* member(const char* name);
  std::uint64_t unsigned_number(const char* name, std::uint64_t max);

  nlohmann::json object_;
  std::string problem_;
};

}  // namespace vmm
