#include "vmm/disk/share_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <set>
#include <utility>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"
#include "vmm/disk/beneath.h"
#include "vmm/disk/move_all.h"

namespace vmm {
namespace {

constexpr std::size_t kMaxNotes = 20;
constexpr std::uint32_t kFirstCluster = 2;
// What the host made meanwhile is never replaced.
constexpr unsigned kNoReplace = RENAME_NOREPLACE;

// The one call, whatever the flags: glibc's renameat2() takes another without any.
bool move_name(const Fd& from, const std::string& name, const Fd& to, const std::string& new_name,
               unsigned flags) {
  return ::syscall(SYS_renameat2, from.get(), name.c_str(), to.get(), new_name.c_str(), flags) == 0;
}

std::string leaf_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

void ShareWriter::note(const std::string& path, std::string_view why) {
  if (notes_.size() < kMaxNotes)
    notes_.push_back(fmt::format("{}: {}", printable(path), why));
  else
    ++notes_left_out_;
}

void ShareWriter::note_errno(const std::string& path, std::string_view what, int number) {
  note(path, fmt::format("it could not be {}: {}", what, errno_name(number)));
}

Fd ShareWriter::parent_of(const std::string& path) const {
  const std::size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
  return open_beneath_no_links(top_, parent.c_str(), O_PATH | O_DIRECTORY);
}

std::vector<std::string> ShareWriter::run() {
  const auto nothing = [&](const std::string& why) {
    return std::vector<std::string>{why + "; nothing was changed on the host"};
  };
  if (!disk_.is_written(0, disk_.geometry().sectors * kSectorSize)) return {};
  if (disk_.refused_writes() != 0)
    return nothing(
        fmt::format("{} writes failed, for the memory for what the guest writes is full ({})",
                    disk_.refused_writes(), format_size(OverlayDisk::kMost)));
  if (const auto headers = check_headers(); !headers) return nothing(headers.error().text());
  auto tree = read_fat_tree(before_.layout, [&](std::uint64_t offset, std::span<std::uint8_t> to) {
    return disk_.read(offset, to);
  });
  if (!tree) return nothing("the guest left a damaged file system: " + tree.error().text());
  tree_ = std::move(*tree);
  for (std::size_t i = 0; i < before_.files.size(); ++i) originals_[before_.files[i].path] = i;
  for (const std::string& refused : tree_.refused) {
    if (notes_.size() < kMaxNotes)
      notes_.push_back(refused);
    else
      ++notes_left_out_;
  }
  collect(tree_.root, "");
  classify();
  if (const auto staged = stage(); !staged) {
    std::vector<std::string> lines = nothing(staged.error().text());
    lines.insert(lines.begin(), notes_.begin(), notes_.end());
    return lines;
  }
  take_renamed();
  remove_gone();
  make_directories();
  put_in_place();
  if (staging_ && ::unlinkat(top_.get(), kStaging, AT_REMOVEDIR) != 0)
    note_errno(kStaging, "removed", errno);
  if (notes_left_out_ != 0) notes_.push_back(fmt::format("... and {} more", notes_left_out_));
  if (written_ + renamed_ + removed_ + made_ != 0)
    notes_.push_back(
        fmt::format("{} files written, {} renamed, {} files and directories removed, "
                    "{} directories made",
                    written_, renamed_, removed_, made_));
  return std::move(notes_);
}

// Where tables and clusters are was decided here: a guest that formats the disk anew is told so.
Result<void> ShareWriter::check_headers() {
  std::array<std::uint8_t, kSectorSize> now{}, then{};
  constexpr std::size_t kDirty = 65;  // of the boot sector: mounted, as Linux and Windows mark it
  const std::uint64_t boot = before_.layout.partition;
  for (const std::uint64_t at : {std::uint64_t{0}, boot}) {
    if (!disk_.read(at, now) || !disk_.read_below(at, then))
      return fail(Error::image("the guest's partition cannot be read"));
    if (at == boot) now[kDirty] = then[kDirty];
    const std::size_t first = at == boot ? 11 : 446;  // code may differ
    const std::size_t last = at == boot ? 66 : 510;
    if (!std::equal(now.begin() + first, now.begin() + last, then.begin() + first))
      return fail(Error::image(at == boot ? "the guest formatted the partition anew"
                                          : "the guest changed the partition table"));
  }
  return {};
}

void ShareWriter::collect(const FatEntry& directory, const std::string& path) {
  for (const FatEntry& child : directory.children) {
    const std::string own = path + child.name;
    if (path.empty() && child.name == kStaging) {
      note(own, "this name is needed here");
      continue;
    }
    if (child.directory) {
      directories_.push_back(own);
      collect(child, own + "/");
    } else {
      files_[own] = {.entry = &child};
    }
  }
}

// The same clusters, none of them written.
bool ShareWriter::is_as_before(const FatEntry& entry, std::size_t original) const {
  const SharedFile& file = before_.files[original];
  if (entry.size != file.size) return false;
  if (entry.size == 0) return true;
  const FatRun& run = before_.runs[original];
  if (entry.runs.size() != 1 || entry.runs[0].first != run.first || entry.runs[0].count < run.count)
    return false;
  return !disk_.is_written(
      before_.layout.data + std::uint64_t{run.first - kFirstCluster} * before_.layout.cluster_size,
      file.size);
}

void ShareWriter::classify() {
  std::map<std::uint32_t, std::size_t> by_cluster;
  for (std::size_t i = 0; i < before_.runs.size(); ++i)
    if (before_.runs[i].count != 0) by_cluster[before_.runs[i].first] = i;
  for (auto& [path, file] : files_) {
    const auto own = originals_.find(path);
    if (own != originals_.end() && is_as_before(*file.entry, own->second)) {
      file.source = Source::Kept;
      file.original = own->second;
      continue;
    }
    // A file that only has another name now need not be copied.
    if (file.entry->runs.empty() || file.entry->size == 0) continue;
    const auto moved = by_cluster.find(file.entry->runs[0].first);
    if (moved == by_cluster.end() || before_.files[moved->second].link ||
        !is_as_before(*file.entry, moved->second))
      continue;
    file.source = Source::Renamed;
    file.original = moved->second;
  }
}

bool ShareWriter::is_untouched_on_host(const SharedFile& file) const {
  const Fd fd = open_beneath(top_, file.path.c_str(), O_PATH);
  struct stat status {};
  return fd && ::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode) &&
         status.st_ino == file.inode && static_cast<std::uint64_t>(status.st_size) == file.size &&
         same_time(status.st_mtim, file.modified);
}

// Everything that needs the old files' bytes is done before one of them changes.
Result<void> ShareWriter::stage() {
  for (auto& [path, file] : files_) {
    if (file.source == Source::Kept) continue;
    const auto own = originals_.find(path);
    const bool renamed = file.source == Source::Renamed;
    const auto changed = [&](std::size_t original) {
      return !is_untouched_on_host(before_.files[original]);
    };
    if ((own != originals_.end() && changed(own->second)) || (renamed && changed(file.original))) {
      note(path, "it changed on the host meanwhile, and stays as it is there");
      file.entry = nullptr;
      continue;
    }
    if (!staging_) {
      if (::mkdirat(top_.get(), kStaging, 0700) != 0)
        return fail(
            Error::image(fmt::format("{} could not be made: {}", kStaging, errno_name(errno))));
      staging_ = open_beneath_no_links(top_, kStaging, O_RDONLY | O_DIRECTORY);
      if (!staging_) return fail(Error::image(fmt::format("{} was taken away", kStaging)));
    }
    file.staged = fmt::format("{}", staged_++);
    if (renamed) continue;
    if (auto done = stage_file(path, file); !done) {
      for (unsigned i = 0; i < staged_; ++i)
        ::unlinkat(staging_.get(), fmt::format("{}", i).c_str(), 0);
      ::unlinkat(top_.get(), kStaging, AT_REMOVEDIR);
      return done;
    }
  }
  return {};
}

Result<void> ShareWriter::stage_file(const std::string& path, NewFile& file) {
  const auto own = originals_.find(path);
  // No bits that let a program run as somebody else.
  const unsigned mode =
      own != originals_.end() ? before_.files[own->second].mode & 0777 : unsigned{0644};
  const Fd fd = open_beneath_no_links(staging_, file.staged.c_str(),
                                      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!fd)
    return fail(
        Error::image(fmt::format("{} could not be made: {}", printable(path), errno_name(errno))));
  if (auto copied = copy_content(*file.entry, fd); !copied)
    return fail(Error::image(printable(path) + ": " + copied.error().text()));
  const std::array<timespec, 2> times = {timespec{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                                         timespec{.tv_sec = file.entry->modified, .tv_nsec = 0}};
  if (::fchmod(fd.get(), mode) != 0 || ::futimens(fd.get(), times.data()) != 0 ||
      ::fdatasync(fd.get()) != 0)
    return fail(Error::image(
        fmt::format("{} could not be written: {}", printable(path), errno_name(errno))));
  return {};
}

Result<void> ShareWriter::copy_content(const FatEntry& entry, const Fd& to) {
  std::vector<std::uint8_t> buffer(64_KiB);
  std::uint64_t done = 0;
  for (const FatRun& run : entry.runs) {
    const std::uint64_t start = before_.layout.data + std::uint64_t{run.first - kFirstCluster} *
                                                          before_.layout.cluster_size;
    const std::uint64_t size = std::min(run.count * before_.layout.cluster_size, entry.size - done);
    for (std::uint64_t at = 0; at < size; at += buffer.size()) {
      const std::size_t count =
          static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), size - at));
      const auto sectors = std::span(buffer).first(align_up(count, kSectorSize));
      if (!disk_.read(start + at, sectors)) return fail(Error::image("its bytes cannot be read"));
      const bool written = move_all(count, [&](std::size_t moved) {
        return ::pwrite(to.get(), buffer.data() + moved, count - moved,
                        static_cast<off_t>(done + at + moved));
      });
      if (!written)
        return fail(Error::image(fmt::format("it could not be written: {}", errno_name(errno))));
    }
    done += size;
  }
  return {};
}

void ShareWriter::take_renamed() {
  for (auto& [path, file] : files_) {
    if (file.entry == nullptr || file.source != Source::Renamed) continue;
    const std::string& old = before_.files[file.original].path;
    const Fd parent = parent_of(old);
    if (parent && move_name(parent, leaf_of(old), staging_, file.staged, kNoReplace)) continue;
    note_errno(path, fmt::format("renamed from {}", printable(old)), errno);
    file.entry = nullptr;
  }
}

void ShareWriter::remove_gone() {
  // What could not be read may be what seems to be gone.
  const bool keep = !tree_.refused.empty();
  std::set<std::size_t> moved;
  for (const auto& [path, file] : files_)
    if (file.source == Source::Renamed) moved.insert(file.original);
  const auto remove = [&](const std::string& path, int flags) {
    const Fd parent = parent_of(path);
    if (parent && ::unlinkat(parent.get(), leaf_of(path).c_str(), flags) == 0)
      ++removed_;
    else
      note_errno(path, "removed", errno);
  };
  std::size_t kept = 0;
  for (std::size_t i = 0; i < before_.files.size(); ++i) {
    const SharedFile& file = before_.files[i];
    if (files_.contains(file.path) || moved.contains(i)) continue;
    if (keep)
      ++kept;
    else if (!is_untouched_on_host(file))
      note(file.path, "the guest removed it, but it changed on the host meanwhile and stays");
    else
      remove(file.path, 0);
  }
  if (kept != 0)
    note("(all)", fmt::format("{} files that the guest may have removed stay, for not all names "
                              "could be read",
                              kept));
  const std::set<std::string> now(directories_.begin(), directories_.end());
  for (auto it = before_.directories.rbegin(); !keep && it != before_.directories.rend(); ++it)
    if (!now.contains(*it)) remove(*it, AT_REMOVEDIR);
}

void ShareWriter::make_directories() {
  const std::set<std::string> then(before_.directories.begin(), before_.directories.end());
  for (const std::string& path : directories_) {
    if (then.contains(path)) continue;
    const Fd parent = parent_of(path);
    if (parent && ::mkdirat(parent.get(), leaf_of(path).c_str(), 0755) == 0)
      ++made_;
    else if (errno != EEXIST || !open_beneath_no_links(top_, path.c_str(), O_PATH | O_DIRECTORY))
      note_errno(path, "made", errno);
  }
}

void ShareWriter::put_in_place() {
  for (const auto& [path, file] : files_) {
    if (file.source == Source::Kept || file.entry == nullptr) continue;
    const Fd parent = parent_of(path);
    // Only what was listed gives way.
    const unsigned flags = originals_.contains(path) ? 0 : kNoReplace;
    if (parent && move_name(staging_, file.staged, parent, leaf_of(path), flags)) {
      ++(file.source == Source::Renamed ? renamed_ : written_);
      continue;
    }
    const int number = errno;
    note(path, fmt::format("it could not be put in its place ({}) and is {}/{} now",
                           errno_name(number), kStaging, file.staged));
  }
  if (written_ + renamed_ != 0) ::fsync(top_.get());
}

}  // namespace vmm
