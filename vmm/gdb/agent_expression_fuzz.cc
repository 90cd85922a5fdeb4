// Any bytecode: it is refused, or ends with a value or an error.
#include "vmm/base/check.h"
#include "vmm/gdb/agent_expression.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  const auto expression = gdb::AgentExpression::parse({data, size});
  if (!expression) return 0;
  unsigned asked = 0;
  const auto some = [&](std::uint64_t where) -> Result<std::uint64_t> {
    ++asked;
    if (where % 16 == 15) return fail(Error::usage("nothing is there"));
    return where * 0x9e37'79b9'7f4a'7c15;
  };
  const auto value = expression->evaluate(
      {.read_register = [&](unsigned number) { return some(number); },
       .read_memory =
           [&](std::uint64_t address, unsigned bytes) {
             VMM_CHECK(bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8, "a word of memory");
             return some(address);
           }});
  VMM_CHECK(asked <= gdb::AgentExpression::kMostSteps, "an evaluation is bounded");
  VMM_CHECK(value || !value.error().text().empty(), "an error says why");
  return 0;
}
