// The timers, the 8259As and the small devices: any register, and what each is for.
#include "guest-tests/guests/fuzz_access.h"
#include "guest-tests/guests/fuzz_operations.h"

using namespace guest;

namespace fuzz {
namespace {

void store_big(uint8_t* at, uint64_t data, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; ++i) at[i] = static_cast<uint8_t>(data >> (8 * (bytes - 1 - i)));
}

// Where RAM is not, only partly, or the sum of address and length wraps.
uint64_t hostile_address(uint32_t r) {
  switch (r & 7) {
    case 0:
      return fuzzer.ram_end;
    case 1:
      return fuzzer.ram_end - (r >> 8 & 0xf);
    case 2:
      return ~uint64_t{r >> 8 & 0x1f};
    case 3:
      return kIoapic | (r >> 8 & 0x7ff);
    case 4:
      return uint64_t{r} << 32 | r;
    case 5:
      return kLapic;
    case 6:
      return uint64_t{1} << (32 + (r >> 8 & 31));
    default:
      return fuzzer.ram_end + (r & 0xffffff);
  }
}

}  // namespace

void pics() { some_port<0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1>(); }

void pit() {
  const uint32_t r = rng().next32();
  if ((r & 7) != 0) return some_port<0x40, 0x41, 0x42, 0x43, 0x61>();
  // Counter 0 in any mode, with a count that is soon over.
  fuzzer.operations += 3;
  out8(0x43, static_cast<uint8_t>(0x30 | (r >> 8 & 0x0f)));
  out8(0x40, static_cast<uint8_t>(r >> 16));
  out8(0x40, (r & 8) != 0 ? 0 : static_cast<uint8_t>(r >> 24));
}

void rtc() {
  const uint32_t r = rng().next32();
  if ((r & 3) == 0) return some_port<0x70, 0x71>();
  fuzzer.operations += 2;
  out8(0x70, static_cast<uint8_t>((r & 4) != 0 ? r >> 8 & 0x0f : r >> 8));
  if ((r & 8) != 0)
    out8(0x71, static_cast<uint8_t>(value()));
  else
    in8(0x71);
}

void keyboard_controller() {
  const uint32_t r = rng().next32();
  if ((r & 0xf) == 0) {  // the output port, without its reset line
    fuzzer.operations += 2;
    out8(0x64, 0xd1);
    out8(0x60, static_cast<uint8_t>(r >> 8 | 1));
    return;
  }
  some_port<0x60, 0x61, 0x62, 0x63, 0x64>();
}

void pci() {
  const uint32_t r = rng().next32();
  if ((r & 3) != 0) {
    // A function that is there, or any; enabled or, rarely, not.
    const uint32_t place = (r & 0xc) != 0 ? (r >> 8 & 0xbfc) : r >> 4 & 0xfffffc;
    ++fuzzer.operations;
    out32(0xcf8, ((r & 0x30) != 0 ? 0x80000000 : 0) | place);
  }
  access_port(static_cast<uint16_t>(0xcf8 + rng().below(9)));
}

// Raw accesses; one that would start a transfer from anywhere in RAM is left to fw_cfg_dma().
void fw_cfg() {
  const uint32_t r = rng().next32();
  if ((r & 3) == 0) {
    ++fuzzer.operations;
    out16(0x510, static_cast<uint16_t>((r & 4) != 0 ? r >> 16 : r >> 8 & 0x3f));
    return;
  }
  const auto port = static_cast<uint16_t>(0x510 + (r >> 8) % 12);
  if (port == 0x518) {
    ++fuzzer.operations;
    in32(port);
    return;
  }
  access_port(port);
}

void fw_cfg_dma() {
  const uint32_t r = rng().next32();
  const uint32_t s = rng().next32();
  uint8_t* descriptor = scratch + (r & 0xff);
  // What is written lies in the scratch memory behind it, whatever the length.
  const uint64_t target = (r & 0x300) != 0
                              ? reinterpret_cast<uintptr_t>(scratch) + 1024 + (r >> 10 & 0xfff)
                              : hostile_address(s);
  constexpr uint32_t kMostPadding = 8192;
  uint32_t length = s >> (s & 31);
  if ((r & 0x300) != 0 || target < fuzzer.ram_end) length %= kMostPadding;
  const uint32_t key = (s & 0x40) != 0 ? s >> 8 : s >> 8 & 0x3f;
  store_big(descriptor, key << 16 | (r >> 24 & 0x1f) | ((r & 0x400000) != 0 ? value() & 0xffff : 0),
            4);
  store_big(descriptor + 4, length, 4);
  store_big(descriptor + 8, target, 8);
  const uint64_t at =
      (r >> 29) != 0 ? reinterpret_cast<uintptr_t>(descriptor) : hostile_address(rng().next32());
  uint8_t address[8];
  store_big(address, at, 8);
  uint32_t halves[2];
  __builtin_memcpy(halves, address, sizeof halves);
  fuzzer.operations += 2;
  out32(0x514, halves[0]);
  out32(0x518, halves[1]);
}

void vga() {
  const uint32_t r = rng().next32();
  if ((r & 3) != 0) return port_range<0x3b0, 0x30>();
  access_memory(0xa0000 + (r >> 8) % 0x20000, value());
}

void test_device() {
  const uint32_t r = rng().next32();
  if ((r & 3) == 0) return port_range<0xe0, 12>();
  if ((r & 3) == 1) return access_memory(0xff000000 + (r >> 8 & 0xffff), value());
  if ((r & 4) != 0) return port_range<0x2000, 25>();
  fuzzer.operations += 2;  // an edge at one of its lines
  const auto line = static_cast<uint16_t>(0x2000 + (r >> 8) % 24);
  out8(line, 1);
  out8(line, 0);
}

void any_port() { access_port(static_cast<uint16_t>(rng().next32() & 0xffff)); }

void any_memory() {
  constexpr uint32_t kEdges[] = {0xfec00ffd, 0xfebfffff, 0xfee00ffe, 0xfedfffff,
                                 0xfffffff8, 0xbfffd,    0x9fffe,    0xff00fffd};
  const uint32_t r = rng().next32();
  if ((r & 7) == 0) {
    const uintptr_t edge = kEdges[r >> 3 & 7];
    return access_memory(edge, without_init(value()));
  }
  if ((r & 7) == 1) return access_memory(fuzzer.ram_end - (r >> 3 & 7), value());
  access_memory(fuzzer.ram_end + (r >> 3) % (0xfec00000 - 8 - fuzzer.ram_end), value());
}

// What KVM does not know, and what it knows but may only be read here.
void any_msr() {
  const uint32_t r = rng().next32();
  ++fuzzer.operations;
  if ((r & 3) == 0)
    rdmsr(r >> 4 & 0xfff);
  else if ((r & 3) == 1)
    rdmsr(0xc0000080 + (r >> 4 & 0x1ff));
  else if ((r & 3) == 2)
    rdmsr(0x10000 + (r >> 4));
  else
    wrmsr(0x10000 + (r >> 4), rng().next());
}

void acpi() { port_range<0x600, 0x10>(); }

void serial() { port_range<0x3f8, 8>(); }

}  // namespace fuzz
