#include "vmm/lab/lab_kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "loader/bzimage_header.h"
#include "vmm/base/bytes.h"
#include "vmm/base/fd.h"
#include "vmm/base/text.h"
#include "vmm/base/units.h"
#include "vmm/lab/kernel_package.h"

namespace vmm {
namespace {

namespace spec = bzimage_header;

constexpr std::size_t kMaxImage = 256_MiB;

tl::unexpected<Error> bad(std::string text) { return fail(Error::usage(std::move(text))); }

// A module of another kernel would be refused inside, after half a minute.
Result<void> check_kvm(const ModuleTree& modules, std::string_view release) {
  if (!modules.contains("kvm")) {
    if (modules.is_builtin("kvm")) return {};
    return fail(Error::usage(fmt::format("{} holds no kvm.ko, and modules.builtin does not name it",
                                         printable(modules.directory())))
                    .hint("give the directory that modules_install made: .../lib/modules/" +
                          printable(release)));
  }
  const KernelModule kvm = VMM_TRY(modules.read("kvm"));
  const std::string_view built_for =
      std::string_view(kvm.info.vermagic).substr(0, kvm.info.vermagic.find(' '));
  if (built_for != release)
    return bad(fmt::format("the modules in {} are for the kernel {}, the image is {}",
                           printable(modules.directory()), printable(built_for),
                           printable(release)));
  return {};
}

Result<LabKernel> load_kernel(const std::string& image, const std::string& modules) {
  LabKernel kernel;
  kernel.image = VMM_TRY(read_file(image, kMaxImage, ErrorKind::Usage));
  auto release = bzimage_release(kernel.image);
  if (!release) return fail(std::move(release).error().context(printable(image)));
  kernel.release = *release;
  const std::string directory =
      modules.empty() ? fmt::format("/lib/modules/{}", kernel.release) : modules;
  auto found = ModuleTree::scan(directory);
  if (!found) {
    Error error = std::move(found).error().context(
        fmt::format("the modules of the kernel {}", printable(image)));
    if (modules.empty())
      error = std::move(error).hint("--lab-modules names the directory that modules_install made");
    return fail(std::move(error));
  }
  kernel.modules = *std::move(found);
  VMM_TRY(check_kvm(kernel.modules, kernel.release));
  return kernel;
}

}  // namespace

Result<std::string> bzimage_release(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < spec::kEnd || load<std::uint16_t>(bytes, spec::kBootFlag) != spec::kBootMark ||
      load<std::uint32_t>(bytes, spec::kHeader) != spec::kHdrS)
    return bad("no bzImage: it lacks the boot sector's mark AA55h or \"HdrS\" at 202h");
  if (load<std::uint16_t>(bytes, spec::kVersion) < 0x0206)
    return bad(fmt::format("boot protocol {:x}h is older than 206h, which Linux 2.6.22 brought",
                           load<std::uint16_t>(bytes, spec::kVersion)));
  const std::size_t offset = load<std::uint16_t>(bytes, spec::kKernelVersion);
  const std::size_t setup_size = (std::size_t{bytes[spec::kSetupSects]} + 1) * 512;
  if (offset == 0 || offset + 0x200 >= std::min(setup_size, bytes.size()))
    return bad("the bzImage does not say its release: kernel_version at 20Eh points nowhere");
  const auto text =
      bytes.subspan(offset + 0x200, std::min<std::size_t>(64, bytes.size() - offset - 0x200));
  std::string release;
  for (const std::uint8_t byte : text) {
    if (byte == ' ' || byte == 0) break;
    // It becomes part of a path.
    if (byte < 0x21 || byte > 0x7e || byte == '/')
      return bad("the bzImage's release (kernel_version at 20Eh) is not a word");
    release.push_back(static_cast<char>(byte));
  }
  if (release.empty() || release.size() == text.size())
    return bad("the bzImage's release (kernel_version at 20Eh) is empty or longer than 63");
  return release;
}

Result<LabKernel> find_lab_kernel(const LabSpec& spec, int cancel) {
  if (!spec.kernel.empty()) return load_kernel(spec.kernel, spec.modules);
  if (!spec.modules.empty())
    return fail(Error::usage("--lab-modules without --lab-kernel: modules go with their own kernel")
                    .hint("give both"));
  const KernelCache cache(VMM_TRY(lab_cache_directory()) + "/kernels");
  const CachedKernel cached = VMM_TRY(cache.obtain(cancel));
  auto kernel = load_kernel(cached.image, cached.modules);
  if (kernel) return kernel;
  return fail(Error::no_lab(kernel.error().text())
                  .hint("remove that kernel's directory from the cache; the next lab fetches it "
                        "again"));
}

}  // namespace vmm
