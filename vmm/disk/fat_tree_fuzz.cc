// read_fat_tree() on any bytes: it ends, and what it gives is safe to make on a host.
#include <algorithm>
#include <string>

#include "vmm/base/check.h"
#include "vmm/disk/fat_tree.h"

namespace vmm {
namespace {

constexpr FatLayout kLayout{.partition = 0,
                            .fat = 0,
                            .fat_size = 512,
                            .data = 512,
                            .cluster_size = 512,
                            .clusters = 100,
                            .root = 2};

std::uint64_t check(const FatEntry& entry, unsigned depth) {
  VMM_CHECK(depth <= 66, "a tree that is too deep");
  std::uint64_t clusters = 0;
  for (const FatRun& run : entry.runs) {
    VMM_CHECK(run.first >= 2 && run.count <= kLayout.clusters &&
                  run.first - 2 <= kLayout.clusters - run.count,
              "clusters outside of the volume");
    clusters += run.count;
  }
  VMM_CHECK(entry.directory || entry.size <= clusters * kLayout.cluster_size,
            "a file without its clusters");
  for (const FatEntry& child : entry.children) {
    const std::string& name = child.name;
    VMM_CHECK(!name.empty() && name.size() <= 255 && name != "." && name != ".." &&
                  name.find('/') == name.npos && name.find('\0') == name.npos,
              "a name that leads somewhere else");
    clusters += check(child, depth + 1);
  }
  return clusters;
}

}  // namespace
}  // namespace vmm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  const std::span<const std::uint8_t> bytes(data, size);
  const auto tree = read_fat_tree(kLayout, [&](std::uint64_t at, std::span<std::uint8_t> to) {
    for (std::uint8_t& byte : to) byte = at < bytes.size() ? bytes[at] : 0, ++at;
    return true;
  });
  if (!tree) {
    VMM_CHECK(!tree.error().text().empty(), "a refusal without a reason");
    return 0;
  }
  VMM_CHECK(check(tree->root, 0) <= kLayout.clusters, "a cluster is used twice");
  VMM_CHECK(tree->refused.size() <= FatTree::kMaxRefused, "too many refusals");
  return 0;
}
