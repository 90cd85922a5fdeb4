// --catch: at which crossings between a guest hypervisor and its guest the run is looked at.
#pragma once

#include <string>
#include <string_view>

#include "vmm/base/result.h"

namespace vmm {

struct CatchSpec {
  enum class What : std::uint8_t {
    VmEntry,      // each VM entry
    VmEntryFail,  // those that will fail
    VmExit,       // each VM exit
  };
  What what = What::VmEntry;
  std::string reason;  // of VmExit: its name or number; empty: each
  // An instruction that enters, by address or symbol; empty: those that the image has.
  std::string place;

  bool operator==(const CatchSpec&) const = default;
};

// "vmentry", "vmentry-fail", "vmexit", "vmexit:REASON", each with "@ADDRESS" or "@SYMBOL".
Result<CatchSpec> parse_catch(std::string_view text);
// As it was written.
std::string catch_text(const CatchSpec& spec);

}  // namespace vmm
