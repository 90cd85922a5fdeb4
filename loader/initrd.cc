#include "loader/initrd.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <string_view>

#include "loader/newc.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/base/units.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxEntries = 100'000;
constexpr std::size_t kMaxPath = 4095;
constexpr std::string_view kOption = "--initrd-add";

tl::unexpected<Error> too_large(const std::string& path) {
  return fail(Error::image(fmt::format("with this file the initrd has more than {}",
                                       format_size(kMaxInitrd)))
                  .at(printable(path)));
}

// Packs host files into one archive.
class Packer {
 public:
  // `room` bytes of content may be read.
  explicit Packer(std::size_t room) : room_(room) {}

  Result<void> add(const std::string& host, const std::string& guest) {
    if (++entries_ > kMaxEntries)
      return fail(Error::image(fmt::format("{} packs more than {} files", kOption, kMaxEntries))
                      .at(printable(host)));
    if (guest.size() > kMaxPath)
      return fail(Error::image("its path in the archive is longer than 4095 characters")
                      .at(printable(host)));
    struct stat status {};
    if (::lstat(host.c_str(), &status) != 0)
      return fail(Error::system(ErrorKind::Image, printable(host), errno).context(kOption));
    const unsigned permissions = status.st_mode & 07777;
    if (guest.empty() && !S_ISDIR(status.st_mode))
      return fail(Error::image("it becomes the guest's root and is no directory")
                      .at(printable(host))
                      .context(kOption));
    if (S_ISDIR(status.st_mode)) return add_directory(host, guest, permissions);
    if (S_ISLNK(status.st_mode)) return add_link(host, guest);
    if (!S_ISREG(status.st_mode))
      return fail(Error::image("neither a file, nor a directory, nor a symbolic link")
                      .at(printable(host))
                      .context(kOption));
    const std::vector<std::uint8_t> bytes =
        VMM_TRY_CONTEXT(read_file(host, kMaxInitrd, ErrorKind::Image), kOption);
    if (bytes.size() > room_) return too_large(host);
    room_ -= bytes.size();
    archive_.add_file(guest, bytes, permissions);
    return {};
  }

  std::vector<std::uint8_t> finish() && { return std::move(archive_).finish(); }

 private:
  Result<void> add_directory(const std::string& host, const std::string& guest,
                             unsigned permissions) {
    if (!guest.empty()) archive_.add_directory(guest, permissions);
    std::error_code error;
    std::vector<std::string> names;
    for (std::filesystem::directory_iterator entry(host, error), end; !error && entry != end;
         entry.increment(error)) {
      names.push_back(entry->path().filename());
      if (names.size() > kMaxEntries) break;
    }
    if (error)
      return fail(Error::system(ErrorKind::Image, printable(host), error.value()).context(kOption));
    // Whatever order the file system has, the same files are the same archive.
    std::ranges::sort(names);
    for (const std::string& name : names)
      VMM_TRY(add(host + "/" + name, guest.empty() ? name : guest + "/" + name));
    return {};
  }

  Result<void> add_link(const std::string& host, const std::string& guest) {
    std::array<char, kMaxPath + 1> target{};
    const ssize_t size = ::readlink(host.c_str(), target.data(), target.size());
    if (size < 0)
      return fail(Error::system(ErrorKind::Image, printable(host), errno).context(kOption));
    archive_.add_symlink(guest, {target.data(), static_cast<std::size_t>(size)});
    return {};
  }

  NewcArchive archive_;
  std::size_t room_;
  std::size_t entries_ = 0;
};

}  // namespace

Result<InitrdAddition> parse_initrd_addition(const std::string& text) {
  const auto bad = [&](std::string_view why) {
    return fail(Error::usage(fmt::format("{} '{}': {}", kOption, printable(text), why))
                    .hint("write HOSTPATH=GUESTPATH, such as build/my.ko=/root/my.ko"));
  };
  const std::size_t equals = text.rfind('=');
  if (equals == text.npos) return bad("there is no '='");
  InitrdAddition addition{.host = text.substr(0, equals), .guest = {}};
  std::string_view rest = std::string_view(text).substr(equals + 1);
  if (addition.host.empty()) return bad("the path on the host is empty");
  // The parts of the path, without empty ones.
  while (!rest.empty()) {
    const std::size_t slash = std::min(rest.find('/'), rest.size());
    const std::string_view part = rest.substr(0, slash);
    rest.remove_prefix(std::min(slash + 1, rest.size()));
    if (part.empty()) continue;
    if (part == "." || part == "..") return bad("the guest's path has a part '.' or '..'");
    if (!addition.guest.empty()) addition.guest += '/';
    addition.guest += part;
  }
  if (equals + 1 == text.size()) return bad("the path in the guest is empty");
  return addition;
}

Result<std::vector<std::uint8_t>> make_initrd(std::span<const std::string> archives,
                                              std::span<const InitrdAddition> additions) {
  std::vector<std::uint8_t> initrd;
  const auto append = [&](const std::vector<std::uint8_t>& bytes) {
    initrd.resize(align_up(initrd.size(), 4));
    initrd.insert(initrd.end(), bytes.begin(), bytes.end());
  };
  for (const std::string& path : archives) {
    std::vector<std::uint8_t> bytes =
        VMM_TRY_CONTEXT(read_file(path, kMaxInitrd, ErrorKind::Image), "--initrd");
    if (bytes.empty())
      return fail(Error::image("the file is empty").at(printable(path)).context("--initrd"));
    if (bytes.size() > kMaxInitrd - initrd.size()) return too_large(path);
    if (initrd.empty())
      initrd = std::move(bytes);
    else
      append(bytes);
  }
  if (additions.empty()) return initrd;
  Packer packer(kMaxInitrd - std::min(initrd.size(), kMaxInitrd));
  for (const InitrdAddition& addition : additions)
    VMM_TRY(packer.add(addition.host, addition.guest));
  append(std::move(packer).finish());
  return initrd;
}

}  // namespace vmm
