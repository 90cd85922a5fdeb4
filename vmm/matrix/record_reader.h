// Takes the members of a JSON object that may hold anything: the first that is not as it should be
// is the error, and everything has a limit.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/matrix/verdict.h"

namespace vmm {

class RecordReader {
 public:
  static constexpr std::size_t kMaxString = 64 << 10;  // longer ones are cut

  // `path` is what messages put before a member's name: "cell." or "". The document outlives this.
  RecordReader(const nlohmann::json& object, std::string path);

  std::string string(const char* key);
  std::vector<std::string> strings(const char* key, std::size_t max);
  std::uint64_t count(const char* key);
  // From 0 to 10^12: seconds, of a date as well.
  double seconds(const char* key);
  int exit_code(const char* key);
  CellVerdict verdict(const char* key);
  // Each item of an array of at most `max`, with its own reader.
  void items(const char* key, std::size_t max, const std::function<void(RecordReader&)>& read);
  // The member, which is an object; null is none, and `read` is not called.
  void object_or_null(const char* key, const std::function<void(RecordReader&)>& read);

  // Notes an error about the member `key`.
  void refuse(std::string_view key, std::string_view what);
  const std::optional<Error>& error() const { return error_; }

 private:
  const nlohmann::json* member(const char* key);
  void take_error(const RecordReader& inner);

  const nlohmann::json* object_;
  std::string path_;
  std::optional<Error> error_;
};

}  // namespace vmm
