#include "vmm/disk/fat_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <optional>
#include <set>

#include "vmm/base/bytes.h"
#include "vmm/base/text.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::size_t ENTRY_SIZE = 32;
constexpr std::uint8_t ATTR_VOLUME_ID = 0x08, ATTR_DIRECTORY = 0x10, ATTR_LONG_NAME = 0x0f;
constexpr std::uint8_t ATTR_LONG_NAME_MASK = 0x3f;
constexpr std::uint8_t LAST_LONG_ENTRY = 0x40;
constexpr std::uint8_t FREE = 0xe5, END = 0x00;
constexpr std::uint8_t LOWER_BASE = 0x08, LOWER_EXTENSION = 0x10;  // DIR_NTRes, as Linux uses it
constexpr std::uint32_t FIRST_CLUSTER = 2;
constexpr std::uint32_t END_OF_CHAIN = 0x0fff'fff8;
constexpr std::uint32_t CLUSTER_MASK = 0x0fff'ffff;

}  // namespace
}  // namespace spec

namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t kMaxEntries = 100'000;
constexpr unsigned kMaxDepth = 64;
constexpr std::size_t kMaxDirectory = 65536 * spec::ENTRY_SIZE;
constexpr std::size_t kLongest = 255;  // units of a long name, and bytes of one on the host

Error damaged(std::string text) { return Error::image(std::move(text)); }

// UTF-8 of a long name; nothing for half a surrogate pair.
std::optional<std::string> utf8_of(const std::vector<std::uint16_t>& units) {
  std::string text;
  for (std::size_t i = 0; i < units.size(); ++i) {
    std::uint32_t point = units[i];
    if (point >= 0xdc00 && point < 0xe000) return std::nullopt;
    if (point >= 0xd800 && point < 0xdc00) {
      if (i + 1 == units.size() || units[i + 1] < 0xdc00 || units[i + 1] >= 0xe000)
        return std::nullopt;
      point = 0x10000 + ((point - 0xd800) << 10) + (units[++i] - 0xdc00U);
    }
    const auto add = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
    if (point < 0x80) {
      add(point);
    } else if (point < 0x800) {
      add(0xc0 | point >> 6);
      add(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
      add(0xe0 | point >> 12);
      add(0x80 | (point >> 6 & 0x3f));
      add(0x80 | (point & 0x3f));
    } else {
      add(0xf0 | point >> 18);
      add(0x80 | (point >> 12 & 0x3f));
      add(0x80 | (point >> 6 & 0x3f));
      add(0x80 | (point & 0x3f));
    }
  }
  return text;
}

// Why a name cannot become one on the host; empty: it can.
std::string_view unsafe(std::string_view name) {
  if (name.empty()) return "its name is empty";
  if (name == "." || name == "..") return "its name is that of a directory above it";
  if (name.size() > kLongest) return "its name is longer than 255 bytes";
  for (const char c : name) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f) return "its name has a control character";
    if (c == '/') return "its name has a /";
  }
  return {};
}

std::int64_t time_of(Bytes entry) {
  const auto date = load<std::uint16_t>(entry, 24);
  const auto time = load<std::uint16_t>(entry, 22);
  std::tm parts{};
  parts.tm_year = 80 + static_cast<int>(bits(date, 15, 9));
  parts.tm_mon = static_cast<int>(bits(date, 8, 5)) - 1;
  parts.tm_mday = static_cast<int>(bits(date, 4, 0));
  parts.tm_hour = static_cast<int>(bits(time, 15, 11));
  parts.tm_min = static_cast<int>(bits(time, 10, 5));
  parts.tm_sec = static_cast<int>(bits(time, 4, 0)) * 2;
  return ::timegm(&parts);  // fields out of range just count on
}

// The parts of a long name as they come in front of their entry.
class LongName {
 public:
  void add(Bytes entry) {
    const std::uint8_t order = entry[0];
    const unsigned number = order & 0x3fU;
    if ((order & spec::LAST_LONG_ENTRY) != 0) {
      *this = {};
      next_ = number;
      checksum_ = entry[13];
    }
    if (number == 0 || number != next_ || number > 20 || entry[13] != checksum_) {
      *this = {};
      return;
    }
    --next_;
    constexpr std::array<std::size_t, 13> kPlaces = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
    std::vector<std::uint16_t> part;
    for (const std::size_t place : kPlaces) {
      const auto unit = load<std::uint16_t>(entry, place);
      if (unit == 0) break;
      part.push_back(unit);
    }
    units_.insert(units_.begin(), part.begin(), part.end());
    complete_ = next_ == 0;
  }
  void clear() { *this = {}; }
  // The units, if they are complete and belong to the entry.
  const std::vector<std::uint16_t>* of(Bytes entry) const {
    if (!complete_) return nullptr;
    std::uint8_t sum = 0;
    for (std::size_t i = 0; i < 11; ++i)
      sum = static_cast<std::uint8_t>((sum >> 1 | sum << 7) + entry[i]);
    return sum == checksum_ ? &units_ : nullptr;
  }

 private:
  unsigned next_ = 0;
  std::uint8_t checksum_ = 0;
  bool complete_ = false;
  std::vector<std::uint16_t> units_;
};

class TreeReader {
 public:
  TreeReader(const FatLayout& layout, const ReadFat& read)
      : layout_(layout), read_(read), used_(layout.clusters) {}

  Result<FatTree> run() {
    tree_.root.directory = true;
    VMM_TRY(list(tree_.root, layout_.root, "", 0));
    return std::move(tree_);
  }

 private:
  void refuse(const std::string& path, std::string_view why) {
    if (tree_.refused.size() < FatTree::kMaxRefused)
      tree_.refused.push_back(fmt::format("{}: {}", printable(path), why));
  }

  // The table's entry, from a window of it.
  Result<std::uint32_t> next(std::uint32_t cluster) {
    const std::uint64_t at = std::uint64_t{cluster} * 4;
    const std::uint64_t start = align_down(at, kWindow);
    if (window_.empty() || start != window_at_) {
      window_.resize(std::min<std::uint64_t>(kWindow, layout_.fat_size - start));
      window_at_ = start;
      if (!read_(layout_.fat + start, window_))
        return fail(damaged("its allocation table cannot be read"));
    }
    return load<std::uint32_t>(window_, at - start) & spec::CLUSTER_MASK;
  }

  // No cluster is in two chains, so every walk ends.
  Result<std::vector<FatRun>> chain(std::uint32_t cluster, const std::string& path) {
    std::vector<FatRun> runs;
    while (cluster < spec::END_OF_CHAIN) {
      if (cluster < spec::FIRST_CLUSTER || cluster - spec::FIRST_CLUSTER >= layout_.clusters)
        return fail(damaged(fmt::format("the clusters of {} lead to {:x}h, which is none",
                                        printable(path), cluster)));
      if (used_[cluster - spec::FIRST_CLUSTER])
        return fail(damaged(fmt::format("cluster {:x}h of {} belongs to something else too",
                                        cluster, printable(path))));
      used_[cluster - spec::FIRST_CLUSTER] = true;
      if (!runs.empty() && runs.back().first + runs.back().count == cluster)
        ++runs.back().count;
      else
        runs.push_back({cluster, 1});
      cluster = VMM_TRY(next(cluster));
    }
    return runs;
  }

  std::uint64_t size_of(const std::vector<FatRun>& runs) const {
    std::uint64_t clusters = 0;
    for (const FatRun& run : runs) clusters += run.count;
    return clusters * layout_.cluster_size;
  }

  Result<void> list(FatEntry& directory, std::uint32_t first, const std::string& path,
                    unsigned depth) {
    const std::string shown = path.empty() ? "the root directory" : path;
    if (depth > kMaxDepth)
      return fail(damaged(
          fmt::format("{} lies more than {} directories deep", printable(shown), kMaxDepth)));
    const auto runs = VMM_TRY(chain(first, shown));
    if (size_of(runs) > kMaxDirectory + layout_.cluster_size)
      return fail(damaged(fmt::format("{} is larger than a directory can be", printable(shown))));
    std::vector<std::uint8_t> bytes(size_of(runs));
    std::size_t at = 0;
    for (const FatRun& run : runs) {
      const std::size_t size = run.count * layout_.cluster_size;
      const std::uint64_t from =
          layout_.data + std::uint64_t{run.first - spec::FIRST_CLUSTER} * layout_.cluster_size;
      if (!read_(from, std::span(bytes).subspan(at, size)))
        return fail(damaged(fmt::format("{} cannot be read", printable(shown))));
      at += size;
    }
    LongName long_name;
    std::set<std::string> names;
    for (at = 0; at < bytes.size() && bytes[at] != spec::END; at += spec::ENTRY_SIZE) {
      const Bytes entry = Bytes(bytes).subspan(at, spec::ENTRY_SIZE);
      if (entry[0] == spec::FREE) {
        long_name.clear();
      } else if ((entry[11] & spec::ATTR_LONG_NAME_MASK) == spec::ATTR_LONG_NAME) {
        long_name.add(entry);
      } else {
        if ((entry[11] & spec::ATTR_VOLUME_ID) == 0)
          VMM_TRY(add(directory, entry, long_name, names, path, depth));
        long_name.clear();
      }
    }
    return {};
  }

  // Empty: none that is safe, which was said.
  std::string name_of(Bytes entry, const LongName& long_name, const std::string& path) {
    std::string name;
    const std::vector<std::uint16_t>* units = long_name.of(entry);
    if (units != nullptr) {
      const auto text = utf8_of(*units);
      if (!text) {
        refuse(path + "?", "its name is no Unicode");
        return {};
      }
      name = *text;
    } else {
      const auto part = [&](std::size_t from, std::size_t size, std::uint8_t lower_bit) {
        std::string text;
        for (std::size_t i = from; i < from + size; ++i) text += static_cast<char>(entry[i]);
        while (text.ends_with(' ')) text.pop_back();
        return (entry[12] & lower_bit) != 0 ? lower(text) : text;
      };
      const std::string extension = part(8, 3, spec::LOWER_EXTENSION);
      name = part(0, 8, spec::LOWER_BASE) + (extension.empty() ? "" : "." + extension);
      if (std::ranges::any_of(name, [](char c) { return (c & 0x80) != 0; })) {
        refuse(path + name, "its short name is in an unknown code page and it has no long one");
        return {};
      }
    }
    if (const std::string_view why = unsafe(name); !why.empty()) {
      refuse(path + name, why);
      return {};
    }
    return name;
  }

  Result<void> add(FatEntry& directory, Bytes entry, const LongName& long_name,
                   std::set<std::string>& names, const std::string& path, unsigned depth) {
    if (++entries_ > kMaxEntries)
      return fail(damaged(fmt::format("it has more than {} files and directories", kMaxEntries)));
    // . and .. of the specification, which stand there by their short names.
    constexpr std::string_view kDots = "..         ";
    const auto is_short = [&](std::string_view name) {
      return std::equal(name.begin(), name.end(), entry.begin(),
                        [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
    };
    if (depth != 0 && (is_short(kDots) || is_short(".          "))) return {};
    FatEntry node;
    node.name = name_of(entry, long_name, path);
    if (node.name.empty()) return {};
    const std::string own = path + node.name;
    node.directory = (entry[11] & spec::ATTR_DIRECTORY) != 0;
    node.modified = time_of(entry);
    const std::uint32_t first =
        (std::uint32_t{load<std::uint16_t>(entry, 20)} << 16 | load<std::uint16_t>(entry, 26)) &
        spec::CLUSTER_MASK;
    if (!names.insert(node.name).second) {
      refuse(own, "another one in its directory has the same name");
      return {};
    }
    if (node.directory) {
      VMM_TRY(list(node, first, own + "/", depth + 1));
    } else {
      node.size = load<std::uint32_t>(entry, 28);
      if (first != 0) node.runs = VMM_TRY(chain(first, own));
      if (size_of(node.runs) < node.size) {
        refuse(own, fmt::format("its clusters end before its {} bytes do", node.size));
        return {};
      }
    }
    directory.children.push_back(std::move(node));
    return {};
  }

  static constexpr std::uint64_t kWindow = 65536;

  const FatLayout& layout_;
  const ReadFat& read_;
  std::vector<bool> used_;
  std::vector<std::uint8_t> window_;
  std::uint64_t window_at_ = 0;
  std::size_t entries_ = 0;
  FatTree tree_;
};

}  // namespace

Result<FatTree> read_fat_tree(const FatLayout& layout, const ReadFat& read) {
  return TreeReader(layout, read).run();
}

}  // namespace vmm
