#include "loader/newc.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <iterator>

#include "vmm/base/check.h"

namespace vmm {
namespace {

constexpr std::string_view kTrailer = "TRAILER!!!";
constexpr std::size_t kMaxPath = 4096;  // PATH_MAX: the kernel skips longer names

std::span<const std::uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

NewcArchive::NewcArchive() { directories_.insert(""); }

void NewcArchive::add_directory(std::string_view path, unsigned mode) {
  if (directories_.contains(path)) return;
  add_parents(path);
  add(path, S_IFDIR | mode, {}, {});
  directories_.insert(std::string(path));
}

void NewcArchive::add_file(std::string_view path, std::span<const std::uint8_t> bytes,
                           unsigned mode) {
  add_parents(path);
  add(path, S_IFREG | mode, bytes, {});
}

void NewcArchive::add_symlink(std::string_view path, std::string_view target) {
  add_parents(path);
  add(path, S_IFLNK | 0777, as_bytes(target), {});
}

void NewcArchive::add_character_device(std::string_view path, unsigned major, unsigned minor,
                                       unsigned mode) {
  add_parents(path);
  add(path, S_IFCHR | mode, {}, {.major = major, .minor = minor});
}

std::vector<std::uint8_t> NewcArchive::finish() && {
  next_inode_ = 0;
  add(kTrailer, 0, {}, {});
  return std::move(bytes_);
}

void NewcArchive::add_parents(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash != path.npos) add_directory(path.substr(0, slash));
}

void NewcArchive::add(std::string_view path, unsigned mode, std::span<const std::uint8_t> bytes,
                      Device device) {
  VMM_CHECK(!path.empty() && path.size() < kMaxPath && path.front() != '/' &&
                path.find('\0') == path.npos,
            "an archive's paths are relative and shorter than PATH_MAX");
  VMM_CHECK(bytes.size() <= 0xffff'ffff, "newc holds sizes in 32 bits");
  const bool is_directory = S_ISDIR(mode);
  // inode, mode, uid, gid, links, mtime, size, major and minor of the file system and of the
  // device, length of the name with its NUL, checksum (of the 070702 format only).
  fmt::format_to(std::back_inserter(bytes_),
                 "070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}"
                 "{:08X}",
                 next_inode_, mode, 0, 0, is_directory ? 2 : 1, 0, bytes.size(), 0, 0, device.major,
                 device.minor, path.size() + 1, 0);
  bytes_.insert(bytes_.end(), path.begin(), path.end());
  bytes_.push_back(0);
  pad();
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  pad();
  ++next_inode_;
}

// Names and contents start at multiples of four.
void NewcArchive::pad() { bytes_.resize((bytes_.size() + 3) / 4 * 4); }

}  // namespace vmm
