// Page tables that lie in memory without being those of the last known CR3. Where SVM has lost the
// registers of a fault, the tables that the guest was about to use still tell what it died of.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "vmm/machine/explain_facts.h"

namespace vmm {

// Roots that map the instruction at RIP to the page where the last CR3 maps it too.
struct OtherTables {
  struct Broken {
    Gpa root = 0;
    Place place;  // the walk of RIP, with the rule on reserved bits that it breaks
  };
  std::vector<Broken> broken;  // lowest first
  std::size_t sound = 0;       // how many break no such rule
  bool complete = true;        // false: more than are looked at, so nothing follows
};

// Looks at each 4 KiB page of the first GiB of guest physical memory; a few milliseconds of it for
// a real guest, and at most a second or two whatever the memory holds. Nothing is found without
// paging, without memory, or when the last CR3 itself fails to lead to RIP.
OtherTables find_other_tables(const Facts& facts);

// Where the guest was to load CR3 soon after RIP: the first MOV to CR3 that straight-line code
// reaches from RIP, from a return address on the stack, or in a function that one of these calls.
struct Cr3Load {
  Gva linear = 0;
  std::string text;  // "mov cr3, rdi"
};
std::optional<Cr3Load> find_cr3_load(const Facts& facts);

}  // namespace vmm
