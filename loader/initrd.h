// The initramfs that Linux is given: archives one after the other, the last one made here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// An initrd, or what is packed for one, larger than this is refused.
constexpr std::size_t kMaxInitrd = 1U << 30;

// "HOSTPATH=GUESTPATH" of --initrd-add: the last '=' separates. A leading '/' of the guest's path
// may be there; "/" alone means what is in the host's directory. "." and ".." are refused, as is an
// empty half. Usage errors.
struct InitrdAddition {
  std::string host;
  std::string guest;  // relative to the root of the archive; empty: the root itself
};
Result<InitrdAddition> parse_initrd_addition(const std::string& text);

// Reads the files of `archives` and packs `additions` (files, symbolic links, whole directories
// with what is in them; permissions are kept, everything belongs to root) behind them, each archive
// at a multiple of four as the kernel wants it. Image errors name the file; nothing is read beyond
// kMaxInitrd.
Result<std::vector<std::uint8_t>> make_initrd(std::span<const std::string> archives,
                                              std::span<const InitrdAddition> additions);

}  // namespace vmm
