#include "vmm/matrix/run_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "vmm/base/text.h"
#include "vmm/matrix/clean_text.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxOutcome = 4 << 20;
constexpr std::size_t kMaxLine = 400;
// Terminal sequences make a log longer than its text.
constexpr std::size_t kRawPerClean = 4;
constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";

// `size` bytes from `offset` on; fewer when the file has become shorter, or cannot be read.
std::string read_at(const Fd& fd, std::uint64_t offset, std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count =
        ::pread(fd.get(), bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    done += static_cast<std::size_t>(count);
  }
  bytes.resize(done);
  return bytes;
}

// Less what stands before the first end of a line, unless that is nearly all.
void drop_torn_line(std::string& text) {
  const std::size_t end = text.find('\n');
  if (end != text.npos && end + 1 < text.size() && end < text.size() / 2) text.erase(0, end + 1);
}

// The strings of an array, those beyond the limits left out.
std::vector<std::string> lines_of(const nlohmann::json& object, const char* key) {
  std::vector<std::string> lines;
  const auto array = object.find(key);
  if (array == object.end() || !array->is_array()) return lines;
  for (const auto& line : *array) {
    if (lines.size() == OutcomeText::kMaxLines) break;
    if (line.is_string()) lines.push_back(clean_line(line.get_ref<const std::string&>(), kMaxLine));
  }
  return lines;
}

}  // namespace

Result<RunFiles> RunFiles::open(const std::string& run_directory) {
  return RunFiles(VMM_TRY(Fd::open(run_directory, O_RDONLY | O_DIRECTORY)));
}

std::optional<RunFiles::File> RunFiles::open_file(std::string_view path) const {
  const auto parts = split(path, '/');
  Fd walk;
  int at = directory_.get();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string part(parts[i]);
    if (part.empty() || part == "." || part == ".." || part.find('\0') != part.npos)
      return std::nullopt;
    const bool is_last = i + 1 == parts.size();
    // Opening a FIFO must not wait for a writer.
    const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (is_last ? O_NONBLOCK : O_DIRECTORY);
    Fd next(::openat(at, part.c_str(), flags));
    if (!next) return std::nullopt;
    walk = std::move(next);
    at = walk.get();
  }
  struct stat status {};
  if (!walk || ::fstat(walk.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return File{std::move(walk), static_cast<std::uint64_t>(status.st_size)};
}

std::optional<TextTail> RunFiles::tail(std::string_view path, std::size_t max) const {
  const auto file = open_file(path);
  if (!file || file->size == 0 || max == 0) return std::nullopt;
  const auto raw =
      static_cast<std::size_t>(std::min<std::uint64_t>(file->size, max * kRawPerClean));
  TextTail tail;
  tail.size = file->size;
  tail.text = clean_log(read_at(file->fd, file->size - raw, raw));
  tail.cut = raw < file->size || tail.text.size() > max;
  if (tail.text.size() > max) {
    std::size_t begin = tail.text.size() - max;
    while (begin < tail.text.size() && (static_cast<std::uint8_t>(tail.text[begin]) & 0xc0) == 0x80)
      ++begin;
    tail.text.erase(0, begin);
  }
  if (tail.cut) drop_torn_line(tail.text);
  while (tail.text.ends_with('\n')) tail.text.pop_back();
  if (tail.text.empty()) return std::nullopt;
  return tail;
}

OutcomeText RunFiles::outcome(std::string_view path) const {
  OutcomeText text;
  const auto file = open_file(path);
  if (!file || file->size > kMaxOutcome) return text;
  const auto document = nlohmann::json::parse(
      read_at(file->fd, 0, static_cast<std::size_t>(file->size)), nullptr, false);
  if (!document.is_object()) return text;
  text.screen = lines_of(document, "screen");
  if (const auto cause = document.find("cause"); cause != document.end() && cause->is_object())
    text.card = lines_of(*cause, "card");
  return text;
}

std::optional<RunFiles::Image> RunFiles::png(std::string_view path, std::size_t max) const {
  const auto file = open_file(path);
  if (!file || read_at(file->fd, 0, kPngSignature.size()) != kPngSignature) return std::nullopt;
  Image image;
  image.size = file->size;
  if (file->size <= max) image.bytes = read_at(file->fd, 0, static_cast<std::size_t>(file->size));
  return image;
}

}  // namespace vmm
