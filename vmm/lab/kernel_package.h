// Debian's cloud kernel in the user's cache: found there, or fetched with apt and unpacked without
// being installed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// Where labs keep what they fetched: $XDG_CACHE_HOME/vmm, else ~/.cache/vmm. An error (NoLab) when
// neither variable is an absolute path.
Result<std::string> lab_cache_directory();

// The package that the output of `apt-cache depends linux-image-cloud-amd64` names, if any.
std::optional<std::string> depended_kernel(std::string_view apt_output);

struct CachedKernel {
  std::string image;    // .../boot/vmlinuz-RELEASE
  std::string modules;  // .../lib/modules/RELEASE
};

// A directory with one subdirectory for each unpacked package, named as the package's file. They
// appear there by a rename, complete; what is half done lies in .work, which the next run removes.
class KernelCache {
 public:
  explicit KernelCache(std::string directory) : directory_(std::move(directory)) {}

  // The unpacked kernel of the highest version. Asks nobody.
  std::optional<CachedKernel> newest() const;
  // The same; before that, packages that the user put into the directory are unpacked, and if there
  // is still none, apt is asked. One process does that at a time, others wait for it. Errors:
  // NoLab, which say where a package can be put by hand; Lab when `cancel` becomes readable.
  Result<CachedKernel> obtain(int cancel = -1) const;

 private:
  std::vector<std::string> packages_to_unpack() const;
  Result<CachedKernel> fill(int cancel) const;
  Result<void> unpack(const std::string& package, int cancel) const;
  Result<std::string> download(int cancel) const;
  std::string work() const { return directory_ + "/.work"; }

  std::string directory_;
};

}  // namespace vmm
