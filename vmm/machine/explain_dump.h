// `vmm explain`: reads what somebody pasted (a QEMU "KVM internal error" dump, a kvm_exit or
// kvm_mmu trace, a kernel log, an outcome of ours) and says what happened.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/machine/explain.h"

namespace vmm {

// At most this much text is read.
constexpr std::size_t kMaxDumpSize = 16u << 20;

// One card for each thing recognised, in the order of the text; dumps and traces that belong
// together (B and C of the field dumps) make one card. An Image error when nothing was recognised,
// which lists what was looked for. Never fails otherwise, whatever the text.
Result<std::vector<CrashCard>> explain_dump(std::string_view text);

}  // namespace vmm
