// parse_image() and place_image() on any bytes; the first one chooses the protocol and the options.
#include "loader/boot.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  if (size == 0) return 0;
  const unsigned choice = data[0];
  BootOptions options;
  switch (choice & 7) {
    case 1:
      options.protocol = "multiboot1";
      break;
    case 2:
      options.protocol = "elf";
      break;
    case 3:
      options.protocol = "flat";
      break;
    case 4:
      options.flat_address = static_cast<Gpa>(choice >> 3) << 15;
      break;
    default:
      break;
  }
  if ((choice & 0x40) != 0) options.command_line = "console=ttyS0";
  if ((choice & 0x80) != 0) options.modules.push_back({"module", "words", {1, 2, 3}});
  const auto image = parse_image("fuzz", {data + 1, data + size}, options);
  if (!image) return 0;
  static GuestMemory memory = std::move(GuestMemory::create(16_MiB)).value();
  const auto state = place_image(*image, options, memory);
  if (state)
    VMM_CHECK(memory.is_ram(state->sregs.cs.base + state->regs.rip), "entry outside of RAM");
  return 0;
}
