// The files that cells leave in a run's directory, as far as a report shows them. Guests wrote
// them, and the directory may come from another machine: nothing is followed out of it, nothing is
// read beyond its limit, and what is read is clean text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"

namespace vmm {

struct TextTail {
  std::string text;        // clean, whole lines
  std::uint64_t size = 0;  // of the file
  bool cut = false;        // the file has more before it
  bool operator==(const TextTail&) const = default;
};

// The lines of an outcome that people read.
struct OutcomeText {
  static constexpr std::size_t kMaxLines = 60;

  std::vector<std::string> card;    // cause.card
  std::vector<std::string> screen;  // the final text screen
  bool operator==(const OutcomeText&) const = default;
};

class RunFiles {
 public:
  static Result<RunFiles> open(const std::string& run_directory);

  // The end of a text, at most `max` bytes of it; nothing where there is no such file, or an empty
  // one. `path` is relative to the run's directory.
  std::optional<TextTail> tail(std::string_view path, std::size_t max) const;
  // Of an outcome (docs/outcome.md); empty where there is none, or none that can be read.
  OutcomeText outcome(std::string_view path) const;
  // The bytes of a PNG, and how many it has. It has no bytes when there are more than `max`;
  // nothing where there is no PNG.
  struct Image {
    std::string bytes;
    std::uint64_t size = 0;
  };
  std::optional<Image> png(std::string_view path, std::size_t max) const;

 private:
  explicit RunFiles(Fd directory) : directory_(std::move(directory)) {}
  struct File {
    Fd fd;
    std::uint64_t size;
  };
  std::optional<File> open_file(std::string_view path) const;

  Fd directory_;
};

}  // namespace vmm
