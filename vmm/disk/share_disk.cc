#include "vmm/disk/share_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmm/base/text.h"
#include "vmm/disk/beneath.h"
#include "vmm/disk/move_all.h"

namespace vmm {
namespace {

// Without O_NONBLOCK a FIFO in the place of a file would wait for its other end.
constexpr int kReadFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY;

// Lists a directory with all in it.
class Lister {
 public:
  Lister(const Fd& top, std::string path) : top_(top), path_(std::move(path)) {}

  Result<FatNode> list() {
    FatNode root;
    root.directory = true;
    VMM_TRY(list(root, "."));
    return root;
  }
  // What was listed; where it lies is not known yet.
  SharedTree take_tree() { return std::move(tree_); }

 private:
  static constexpr unsigned kMaxDepth = 64;

  std::string shown(const std::string& beneath) const {
    return printable(beneath == "." ? path_ : path_ + "/" + beneath);
  }
  Error trouble(std::string_view what, const std::string& beneath) const {
    return Error::system(ErrorKind::Image, fmt::format("{} {}", what, shown(beneath)), errno);
  }
  Error refusal(const std::string& beneath, std::string_view why) const {
    return Error::image(fmt::format("{}: {}", shown(beneath), why))
        .hint("a shared directory holds files, directories and links to files within it");
  }

  Result<std::vector<std::string>> names_in(Fd fd, const std::string& beneath) {
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd.get()), ::closedir);
    if (stream == nullptr) return fail(trouble("list", beneath));
    (void)fd.release();  // the stream's now
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(stream.get())) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      names.push_back(name);
      if (++entries_ > ShareDisk::kMaxEntries)
        return fail(Error::image(fmt::format("{}: more than {} files and directories are in it",
                                             printable(path_), ShareDisk::kMaxEntries)));
    }
    if (errno != 0) return fail(trouble("list", beneath));
    std::ranges::sort(names);
    return names;
  }

  Result<void> list(FatNode& directory, const std::string& beneath, unsigned depth = 0) {
    if (depth > kMaxDepth) return fail(refusal(beneath, "it lies too deep"));
    Fd fd = open_beneath_no_links(top_, beneath.c_str(), O_RDONLY | O_DIRECTORY);
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0) return fail(trouble("open", beneath));
    directory.modified = status.st_mtim.tv_sec;
    for (const std::string& name : VMM_TRY(names_in(std::move(fd), beneath))) {
      FatNode node;
      node.name = name;
      VMM_TRY(add(node, beneath == "." ? name : beneath + "/" + name, depth));
      directory.children.push_back(std::move(node));
    }
    return {};
  }

  Result<void> add(FatNode& node, const std::string& beneath, unsigned depth) {
    struct stat status {};
    if (::fstatat(top_.get(), beneath.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
      return fail(trouble("stat", beneath));
    if (S_ISDIR(status.st_mode)) {
      node.directory = true;
      tree_.directories.push_back(beneath);
      return list(node, beneath, depth + 1);
    }
    const bool link = S_ISLNK(status.st_mode);
    if (!link && !S_ISREG(status.st_mode))
      return fail(refusal(beneath, "it is neither a file nor a directory"));
    // Where it leads, before it is opened for good.
    const Fd target = open_beneath(top_, beneath.c_str(), O_PATH);
    if (!target && link && (errno == EXDEV || errno == ENOENT || errno == ELOOP))
      return fail(refusal(beneath, errno == ENOENT ? "it is a link to nothing"
                                   : errno == ELOOP
                                       ? "it is a link in a circle"
                                       : "it is a link that leads out of the directory"));
    if (!target || ::fstat(target.get(), &status) != 0) return fail(trouble("open", beneath));
    if (!S_ISREG(status.st_mode))
      return fail(refusal(beneath, "it is a link to something other than a file"));
    if (!open_beneath(top_, beneath.c_str(), kReadFlags)) return fail(trouble("open", beneath));
    node.modified = status.st_mtim.tv_sec;
    node.size = static_cast<std::uint64_t>(status.st_size);
    node.file = tree_.files.size();
    tree_.files.push_back({.path = beneath,
                           .inode = status.st_ino,
                           .size = node.size,
                           .modified = status.st_mtim,
                           .mode = status.st_mode,
                           .link = link});
    return {};
  }

  const Fd& top_;
  std::string path_;
  SharedTree tree_;
  std::size_t entries_ = 0;
};

}  // namespace

ShareDisk::ShareDisk(Fd directory, SharedTree tree, FatVolume volume, std::string id)
    : directory_(std::move(directory)),
      tree_(std::move(tree)),
      volume_(std::move(volume)),
      geometry_{.sectors = volume_.sectors(), .read_only = true, .id = std::move(id)} {}

Result<std::unique_ptr<ShareDisk>> ShareDisk::open(const std::string& path, std::string id,
                                                   std::uint64_t room) {
  Fd directory = VMM_TRY(Fd::open(path, O_RDONLY | O_DIRECTORY, ErrorKind::Image));
  Lister lister(directory, path);
  FatNode root = VMM_TRY(lister.list());
  FatVolume volume = VMM_TRY(FatVolume::create(std::move(root), path, room));
  SharedTree tree = lister.take_tree();
  tree.runs = volume.file_runs(tree.files.size());
  tree.layout = volume.layout();
  return std::unique_ptr<ShareDisk>(
      new ShareDisk(std::move(directory), std::move(tree), std::move(volume), std::move(id)));
}

bool ShareDisk::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  return volume_.read(offset, data, *this);
}

// The file's, from the few that are kept open; the one that was used longest ago goes.
int ShareDisk::descriptor(std::size_t file) {
  OpenFile* oldest = &open_[0];
  for (OpenFile& candidate : open_) {
    if (candidate.fd && candidate.file == file) {
      candidate.used = ++uses_;
      return candidate.fd.get();
    }
    if (candidate.used < oldest->used) oldest = &candidate;
  }
  *oldest = {open_beneath(directory_, tree_.files[file].path.c_str(), kReadFlags), file, ++uses_};
  return oldest->fd.get();
}

bool ShareDisk::read_file(std::size_t file, std::uint64_t offset, std::span<std::uint8_t> data) {
  const int fd = descriptor(file);
  if (fd < 0) return false;
  return move_all(data.size(), [&](std::size_t done) {
    return ::pread(fd, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
  });
}

}  // namespace vmm
