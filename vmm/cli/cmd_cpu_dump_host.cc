// vmm cpu dump-host: this host as a file, for --host and baseline anywhere.
#include <fmt/format.h>

#include "vmm/cli/cmd_cpu.h"
#include "vmm/cpu/host_dump.h"
#include "vmm/machine/host.h"

namespace vmm {

void add_cpu_dump_host(CLI::App& cpu, Command& chosen) {
  CLI::App* dump = cpu.add_subcommand(
      "dump-host", "print this host as a JSON file, which --host and baseline read anywhere");
  dump->callback([&chosen] {
    chosen.run = []() -> Result<int> {
      fmt::print("{}", host_dump_text(VMM_TRY(read_host_grant())));
      return 0;
    };
    chosen.paths = []() -> Result<std::vector<PathUse>> { return {}; };
  });
}

}  // namespace vmm
