// The modules of a kernel: where they lie, what they need, in which order they load.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"

namespace vmm {

// What a module's .modinfo section says, of that what is used here.
struct ModuleInfo {
  std::vector<std::string> depends;     // canonical names, in the module's order
  std::vector<std::string> parameters;  // names, in the module's order
  std::string vermagic;                 // "6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions"
};

// Reads the section of a module (an ELF64 relocatable object, not compressed). Errors of kind
// Usage say what is wrong with the file.
Result<ModuleInfo> read_module_info(std::span<const std::uint8_t> bytes);

// The module without the signature appended to it (the kernel's Documentation/admin-guide/
// module-signing.rst), or all of it when there is none or a damaged one. Checking it takes an
// emulated processor longer than the rest of the loading; the kernel loads unsigned modules too,
// unless it was configured not to.
std::span<const std::uint8_t> without_signature(std::span<const std::uint8_t> bytes);

// Names are the same with - and with _; the kernel's own form has _. "kvm-amd" gives "kvm_amd".
std::string module_name(std::string_view name);

struct KernelModule {
  std::string name;                 // canonical
  std::vector<std::uint8_t> bytes;  // not compressed
  ModuleInfo info;
};

// The files under one /lib/modules/RELEASE.
class ModuleTree {
 public:
  // Looks for NAME.ko, NAME.ko.xz and NAME.ko.zst in the directory and below (symbolic links to
  // directories are not followed), and reads modules.builtin if it is there. Errors (kind Usage):
  // no such directory, or more files in it than a kernel has.
  static Result<ModuleTree> scan(const std::string& directory);

  bool contains(std::string_view name) const;
  // Built into the kernel, says modules.builtin.
  bool is_builtin(std::string_view name) const;
  const std::string& directory() const { return directory_; }

  Result<KernelModule> read(std::string_view name) const;
  // The wanted modules and all that they depend on, each once, in an order in which they load.
  // Built-in ones are left out. Errors (kind Usage): one is in no file and not built in; a circle.
  Result<std::vector<KernelModule>> load_order(std::span<const std::string> wanted) const;

 private:
  struct Visit;
  Result<void> visit(const std::string& name, std::string_view needed_by, Visit& state) const;

  std::string directory_;
  std::map<std::string, std::string, std::less<>> files_;  // name to path
  std::set<std::string, std::less<>> builtin_;
};

}  // namespace vmm
