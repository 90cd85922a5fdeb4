// parse_image() and place_image() on any bytes; the first one chooses the protocol and the options,
// or that they are firmware.
#include "loader/boot.h"
#include "loader/firmware_image.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  if (size == 0) return 0;
  const unsigned choice = data[0];
  if ((choice & 0x0f) == 0x0e) {
    // Sizes are multiples of 4 KiB; the volumes' own count more than the bytes behind them.
    std::vector<std::uint8_t> bytes(data + 1, data + size);
    bytes.resize((bytes.size() + 4095) / 4096 * 4096, 0x90);
    const auto code = parse_firmware("fuzz", bytes);
    const auto variables = parse_variables("fuzz", bytes);
    if (code) VMM_CHECK(code->vars_size < bytes.size(), "no code behind the store");
    if (code && variables) (void)variables_base(*code, *variables, "fuzz");
    return 0;
  }
  BootOptions options;
  // By content half of the time, for there everything is looked for.
  const auto words = boot_protocol_words();
  if ((choice & 0x0f) < words.size()) options.protocol = std::string(words[choice & 0x0f]);
  if ((choice & 0x0f) == 0x0f) options.flat_address = static_cast<Gpa>(choice >> 4) << 16;
  if ((choice & 0x10) != 0) options.command_line = "console=ttyS0";
  if ((choice & 0x20) != 0) options.modules.push_back({"module", "words", {1, 2, 3}});
  if ((choice & 0x40) != 0) options.initrd = {4, 5, 6};
  const auto image = parse_image("fuzz", {data + 1, data + size}, options);
  if (!image) return 0;
  static GuestMemory memory = std::move(GuestMemory::create(16_MiB)).value();
  const auto state = place_image(*image, options, memory);
  if (state)
    VMM_CHECK(memory.is_ram(state->sregs.cs.base + state->regs.rip), "entry outside of RAM");
  return 0;
}
