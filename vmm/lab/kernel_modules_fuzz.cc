// The reader of a module's .modinfo section, and the decompressors, on any bytes.
#include "loader/decompress.h"
#include "vmm/base/check.h"
#include "vmm/base/units.h"
#include "vmm/lab/kernel_modules.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  if (size == 0) return 0;
  const std::span<const std::uint8_t> bytes(data + 1, size - 1);
  constexpr std::size_t kLimit = 1_MiB;
  if (data[0] % 2 == 0) {
    (void)read_module_info(bytes);
    (void)read_module_info(without_signature(bytes));
  } else if (const auto compression = compression_of(bytes)) {
    const auto content = decompress(*compression, bytes, kLimit);
    VMM_CHECK(!content || content->size() <= kLimit, "more content than was allowed");
  }
  return 0;
}
