// Names on a FAT volume: a long one in UTF-16 and a short alias in 8.3 form (Microsoft, FAT32 File
// System Specification 1.03).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

using FatShortName = std::array<std::uint8_t, 11>;  // base and extension, padded with spaces

// The UTF-16 units of a name that a FAT volume can hold; else the reason why it cannot, as the end
// of a sentence that begins with the name.
tl::expected<std::vector<std::uint16_t>, std::string> fat_long_name(std::string_view utf8);

// How FAT compares names, as far as this volume needs it: letters A to Z in either case are one.
std::string fat_folded(std::string_view name);

// The aliases of one directory, in the order in which they are asked for.
class FatAliases {
 public:
  // Names that are their own alias are to come first: they cannot give way.
  static bool is_its_own(std::string_view name);
  FatShortName add(std::string_view name);

 private:
  bool take(const FatShortName& name) { return used_.insert(name).second; }
  std::set<FatShortName> used_;
  std::map<std::string, unsigned> next_number_;  // by what is in front of the ~
};

// The checksum that ties a long name to its alias.
std::uint8_t fat_checksum(const FatShortName& name);

}  // namespace vmm
