// The reader of a module's .modinfo section, and both decompressors, on any bytes.
#include "vmm/base/check.h"
#include "vmm/base/units.h"
#include "vmm/lab/decompress.h"
#include "vmm/lab/kernel_modules.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  if (size == 0) return 0;
  const std::span<const std::uint8_t> bytes(data + 1, size - 1);
  constexpr std::size_t kLimit = 1_MiB;
  switch (data[0] % 3) {
    case 0:
      (void)read_module_info(bytes);
      (void)read_module_info(without_signature(bytes));
      break;
    case 1:
      if (const auto content = decompress_xz(bytes, kLimit))
        VMM_CHECK(content->size() <= kLimit, "more content than was allowed");
      break;
    default:
      if (const auto content = decompress_zstd(bytes, kLimit))
        VMM_CHECK(content->size() <= kLimit, "more content than was allowed");
      break;
  }
  return 0;
}
