// Any bytes from a client: nothing crashes, nothing grows, and every answer is a packet.
#include "vmm/base/check.h"
#include "vmm/core/debug_target_fake.h"
#include "vmm/gdb/stub.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vmm;
  FakeDebugTarget target(2);
  Debugger debugger(target, PagingFeatures());
  gdb::Stub stub(target, debugger, {});
  // As a socket gives it: in pieces.
  for (std::size_t done = 0; done < size;) {
    const std::size_t piece = std::min<std::size_t>(size - done, 1 + data[done] % 64);
    stub.receive({data + done, piece});
    done += piece;
    if (stub.take_wish() == gdb::Wish::Interrupt) {
      (void)debugger.interrupted();
      stub.interrupted();
    }
    const std::string output = stub.take_output();
    VMM_CHECK(output.size() < piece * (2 * gdb::kPacketSize + 8), "an answer is bounded");
    gdb::PacketReader reader;
    for (const gdb::Event& event :
         reader.push({reinterpret_cast<const std::uint8_t*>(output.data()), output.size()}))
      VMM_CHECK(!std::holds_alternative<gdb::Damaged>(event), "an answer is a whole packet");
    // The guest stops now and then.
    if (debugger.running() && piece % 3 == 0) {
      const auto report =
          debugger.stopped(piece % 2, {.exception = 1, .pc = 0x1000, .dr6 = 1u << 14, .dr7 = 0});
      if (report && *report) stub.stopped(**report);
      (void)stub.take_output();
    }
  }
  return 0;
}
