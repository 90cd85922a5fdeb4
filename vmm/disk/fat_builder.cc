#include "vmm/disk/fat_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <map>

#include "vmm/base/bytes.h"
#include "vmm/base/check.h"
#include "vmm/base/text.h"
#include "vmm/disk/fat_names.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::size_t ENTRY_SIZE = 32;
constexpr std::uint8_t ATTR_VOLUME_ID = 0x08, ATTR_DIRECTORY = 0x10, ATTR_ARCHIVE = 0x20,
                       ATTR_LONG_NAME = 0x0f;
constexpr std::uint8_t LAST_LONG_ENTRY = 0x40;
constexpr std::size_t UNITS_PER_ENTRY = 13;

}  // namespace
}  // namespace spec

namespace {

constexpr unsigned kMaxDepth = 64;
// Entries beside those of the children: the label, or . and ..
constexpr std::size_t kOwnEntries = 2;

using Bytes = std::vector<std::uint8_t>;

// Directory entries that a name takes, which FAT can have.
std::size_t entries_of(std::string_view name) {
  if (FatAliases::is_its_own(name)) return 1;
  const std::size_t units = fat_long_name(name)->size();
  return 1 + (units + spec::UNITS_PER_ENTRY - 1) / spec::UNITS_PER_ENTRY;
}

std::size_t size_of_directory(const FatNode& directory) {
  std::size_t entries = kOwnEntries;
  for (const FatNode& child : directory.children) entries += entries_of(child.name);
  return entries * spec::ENTRY_SIZE;
}

std::uint64_t clusters_of(std::uint64_t size, std::uint64_t cluster_size) {
  return size / cluster_size + (size % cluster_size != 0 ? 1 : 0);
}

struct FatTime {
  std::uint16_t date;
  std::uint16_t time;
};
// In UTC; what lies outside of 1980 to 2107 is moved to the nearer end.
FatTime fat_time(std::int64_t seconds) {
  constexpr std::int64_t kFirst = 315532800, kLast = 4354819198;
  const std::time_t clamped = std::clamp(seconds, kFirst, kLast);
  std::tm parts{};
  VMM_CHECK(gmtime_r(&clamped, &parts) != nullptr, "a date up to 2107 can be taken apart");
  return {static_cast<std::uint16_t>((parts.tm_year - 80) << 9 | (parts.tm_mon + 1) << 5 |
                                     parts.tm_mday),
          static_cast<std::uint16_t>(parts.tm_hour << 11 | parts.tm_min << 5 | parts.tm_sec / 2)};
}

void add_short(Bytes& out, const FatShortName& name, std::uint8_t attributes, std::int64_t modified,
               std::uint32_t cluster, std::uint32_t size) {
  const std::size_t at = out.size();
  out.resize(at + spec::ENTRY_SIZE);
  std::copy(name.begin(), name.end(), out.begin() + static_cast<std::ptrdiff_t>(at));
  const FatTime time = fat_time(modified);
  out[at + 11] = attributes;
  store(out, at + 14, time.time);
  store(out, at + 16, time.date);
  store(out, at + 18, time.date);
  store(out, at + 20, static_cast<std::uint16_t>(cluster >> 16));
  store(out, at + 22, time.time);
  store(out, at + 24, time.date);
  store(out, at + 26, static_cast<std::uint16_t>(cluster));
  store(out, at + 28, size);
}

// The parts of a long name stand in front of its alias, the last part first.
void add_long(Bytes& out, const std::vector<std::uint16_t>& units, std::uint8_t checksum) {
  const std::size_t parts = (units.size() + spec::UNITS_PER_ENTRY - 1) / spec::UNITS_PER_ENTRY;
  constexpr std::array<std::size_t, spec::UNITS_PER_ENTRY> kPlaces = {1,  3,  5,  7,  9,  14, 16,
                                                                      18, 20, 22, 24, 28, 30};
  for (std::size_t part = parts; part-- > 0;) {
    const std::size_t at = out.size();
    out.resize(at + spec::ENTRY_SIZE);
    out[at] =
        static_cast<std::uint8_t>((part + 1) | (part + 1 == parts ? spec::LAST_LONG_ENTRY : 0));
    out[at + 11] = spec::ATTR_LONG_NAME;
    out[at + 13] = checksum;
    for (std::size_t i = 0; i < spec::UNITS_PER_ENTRY; ++i) {
      const std::size_t unit = part * spec::UNITS_PER_ENTRY + i;
      // One 0 behind the name, then FFFFh.
      const std::uint16_t value = unit < units.size()    ? units[unit]
                                  : unit == units.size() ? std::uint16_t{0}
                                                         : std::uint16_t{0xffff};
      store(out, at + kPlaces[i], value);
    }
  }
}

FatShortName special_name(std::string_view text) {
  FatShortName name;
  name.fill(' ');
  std::copy(text.begin(), text.end(), name.begin());
  return name;
}

}  // namespace

// Where each node of a directory begins; filled before any entry is written.
struct FatBuilder::Plan {
  const FatNode* node;
  std::uint32_t first;
  std::uint32_t parent;  // 0: the root
  std::vector<std::uint32_t> children;
};

Result<void> FatBuilder::check(FatNode& root) const { return check(root, path_, 0); }

Result<void> FatBuilder::check(FatNode& directory, const std::string& path, unsigned depth) const {
  const auto refuse = [](const std::string& where, const std::string& why) {
    return fail(Error::image(fmt::format("{}: {}", printable(where), why))
                    .hint("a shared directory becomes a FAT disk; rename or move what cannot be "
                          "on one"));
  };
  if (depth > kMaxDepth)
    return refuse(path, fmt::format("it lies more than {} directories deep", kMaxDepth));
  std::ranges::sort(directory.children, {}, &FatNode::name);
  std::map<std::string, const FatNode*> folded;
  for (FatNode& child : directory.children) {
    const std::string child_path = path + "/" + child.name;
    if (const auto name = fat_long_name(child.name); !name)
      return refuse(child_path, "its name " + name.error());
    const auto [other, is_new] = folded.emplace(fat_folded(child.name), &child);
    if (!is_new)
      return refuse(child_path, fmt::format("to FAT its name is the same as {}",
                                            printable(other->second->name)));
    if (child.size > FatVolume::kMaxFileSize)
      return refuse(child_path, fmt::format("its {} bytes are more than the 4 GiB - 1 of a file on "
                                            "FAT",
                                            child.size));
    if (child.directory) VMM_TRY(check(child, child_path, depth + 1));
  }
  if (size_of_directory(directory) > FatVolume::kMaxDirectoryEntries * spec::ENTRY_SIZE)
    return refuse(path, "it has more entries than a directory on FAT can have");
  return {};
}

std::uint64_t FatBuilder::clusters(const FatNode& node, std::uint64_t cluster_size) const {
  if (!node.directory) return clusters_of(node.size, cluster_size);
  std::uint64_t count = clusters_of(size_of_directory(node), cluster_size);
  for (const FatNode& child : node.children) count += clusters(child, cluster_size);
  return count;
}

FatBuilder::Result FatBuilder::build(const FatNode& root, std::uint32_t first_cluster,
                                     std::uint64_t cluster_size, std::string_view label) const {
  Result result;
  std::uint32_t next = first_cluster;
  const auto place = [&](std::uint64_t size, bool directory, std::size_t index) {
    const auto count = static_cast<std::uint32_t>(clusters_of(size, cluster_size));
    if (count == 0) return std::uint32_t{0};  // an empty file has none
    result.items.push_back({next, count, directory, index, size});
    next += count;
    return next - count;
  };
  std::vector<Plan> plans{{&root, place(size_of_directory(root), true, 0), 0, {}}};
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const FatNode& directory = *plans[i].node;
    for (const FatNode& child : directory.children) {
      std::uint32_t first = 0;
      if (child.directory) {
        first = place(size_of_directory(child), true, plans.size());
        plans.push_back({&child, first, i == 0 ? 0 : plans[i].first, {}});
      } else {
        first = place(child.size, false, child.file);
      }
      plans[i].children.push_back(first);
    }
  }
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const Plan& plan = plans[i];
    Bytes bytes;
    if (i == 0) {
      add_short(bytes, special_name(label), spec::ATTR_VOLUME_ID, root.modified, 0, 0);
    } else {
      add_short(bytes, special_name("."), spec::ATTR_DIRECTORY, plan.node->modified, plan.first, 0);
      add_short(bytes, special_name(".."), spec::ATTR_DIRECTORY, plan.node->modified, plan.parent,
                0);
    }
    FatAliases aliases;
    std::vector<FatShortName> names(plan.node->children.size());
    for (const bool own : {true, false})
      for (std::size_t c = 0; c < names.size(); ++c)
        if (FatAliases::is_its_own(plan.node->children[c].name) == own)
          names[c] = aliases.add(plan.node->children[c].name);
    for (std::size_t c = 0; c < names.size(); ++c) {
      const FatNode& child = plan.node->children[c];
      if (!FatAliases::is_its_own(child.name))
        add_long(bytes, *fat_long_name(child.name), fat_checksum(names[c]));
      add_short(bytes, names[c], child.directory ? spec::ATTR_DIRECTORY : spec::ATTR_ARCHIVE,
                child.modified, plan.children[c], static_cast<std::uint32_t>(child.size));
    }
    // The root has one entry of its own, not two.
    const std::size_t planned = size_of_directory(*plan.node);
    VMM_CHECK(bytes.size() <= planned, "a directory is larger than the room that it has");
    bytes.resize(planned);
    result.directories.push_back(std::move(bytes));
  }
  result.clusters = next - first_cluster;
  return result;
}

}  // namespace vmm
