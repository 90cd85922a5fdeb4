// Consoles of hostile guests: the counts stay what they are and the names short.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "vmm/base/text.h"
#include "vmm/matrix/clean_text.h"
#include "vmm/matrix/sub_results.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto lines = vmm::split(text, '\n');
  for (const auto format :
       {vmm::ResultFormat::Tap, vmm::ResultFormat::Ktap, vmm::ResultFormat::KvmUnitTests}) {
    vmm::SubResultReader reader(format);
    for (const std::string_view line : lines) reader.line(line);
    const vmm::SubResults results = reader.finish();
    require(results.passed + results.failed + results.skipped + results.expected_failures <=
            lines.size());
    require(results.failures.size() <= vmm::SubResults::kMaxNames);
    require(results.failures.size() <= results.failed);
    for (const std::string& name : results.failures)
      require(name.size() <= vmm::SubResults::kMaxNameSize);
    require(results.problem.size() <= vmm::SubResults::kMaxNameSize);
  }
  // Cleaning leaves nothing to clean.
  const std::string log = vmm::clean_log(text);
  require(vmm::clean_log(log) == log);
  const std::string line = vmm::clean_line(text, 1 << 20);
  require(vmm::clean_line(line, 1 << 20) == line);
  return 0;
}
