// The input is a tree of names and sizes, then places to read: a volume is refused, or all of it
// can be read, and a reader that knows FAT finds every file again.
#include <algorithm>
#include <stdexcept>

#include "vmm/base/check.h"
#include "vmm/disk/fat_reader_fake.h"
#include "vmm/disk/fat_volume.h"

namespace vmm {
namespace {

class Files final : public FatFiles {
 public:
  bool read_file(std::size_t file, std::uint64_t offset, std::span<std::uint8_t> data) override {
    VMM_CHECK(file < sizes.size() && offset <= sizes[file] && data.size() <= sizes[file] - offset,
              "a file is read beyond its end");
    std::fill(data.begin(), data.end(), static_cast<std::uint8_t>(file + 1));
    return true;
  }
  std::vector<std::uint64_t> sizes;
};

class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  std::uint8_t next() {
    if (bytes_.empty()) return 0;
    const std::uint8_t byte = bytes_[0];
    bytes_ = bytes_.subspan(1);
    return byte;
  }
  bool empty() const { return bytes_.empty(); }

 private:
  std::span<const std::uint8_t> bytes_;
};

FatNode tree(Input& input, Files& files, unsigned depth, std::size_t& nodes) {
  FatNode directory;
  directory.directory = true;
  while (!input.empty() && nodes < 300) {
    const std::uint8_t kind = input.next();
    if (kind < 16) break;
    ++nodes;
    FatNode node;
    if (kind < 80 && depth < 70) node = tree(input, files, depth + 1, nodes);
    for (unsigned length = input.next() % 40; length > 0; --length)
      node.name += static_cast<char>(input.next());
    if (!node.directory) {
      node.size = static_cast<std::uint64_t>(input.next()) << (kind % 9);
      if (kind == 255) node.size <<= 28;
      node.file = files.sizes.size();
      node.modified = (static_cast<std::int64_t>(input.next()) - 20) << 25;
      files.sizes.push_back(node.size);
    }
    directory.children.push_back(std::move(node));
  }
  return directory;
}

void run(std::span<const std::uint8_t> bytes) {
  Input input(bytes);
  Files files;
  std::size_t nodes = 0;
  const FatNode root = tree(input, files, 0, nodes);
  const auto volume = FatVolume::create(root, "share");
  if (!volume) {
    VMM_CHECK(!volume.error().text().empty(), "a refusal without a reason");
    return;
  }
  std::uint64_t total = 0;
  for (const std::uint64_t size : files.sizes) total += size;
  if (total > 1'000'000) return;
  FatReader reader([&](std::uint64_t sector) {
    std::vector<std::uint8_t> data(512);
    VMM_CHECK(sector < volume->sectors(), "a sector outside of the disk");
    VMM_CHECK(volume->read(sector * 512, data, files), "a sector cannot be read");
    return data;
  });
  const auto found = reader.files();
  VMM_CHECK(found.size() == nodes, "a file or directory is missing");
  std::uint64_t found_bytes = 0;
  for (const auto& [name, contents] : found) found_bytes += contents.size();
  VMM_CHECK(found_bytes == total, "bytes of files are missing");
}

}  // namespace
}  // namespace vmm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vmm::run({data, size});
  return 0;
}
