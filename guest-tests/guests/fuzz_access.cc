// What would end the run by right is kept from happening.
#include "guest-tests/guests/fuzz_access.h"

using namespace guest;

namespace fuzz {
namespace {

// Ports where some byte ends the run; a bit for each port at which an access could reach one.
uint8_t hazards[65536 / 8];

bool is_debug_exit(uint32_t port) { return port >= 0xf4 && port < 0xf8; }

uint8_t tame_byte(uint32_t port, uint8_t byte) {
  switch (port) {
    case 0x64:  // pulse of the reset line; the output port, which has that line too
      if (byte >= 0xf0) return byte | 1;
      return byte == 0xd1 ? 0xd2 : byte;
    case 0x92:
      return byte & 0xfe;
    case 0xcf9:
      return byte & 0xfb;
    case 0x605:  // SLP_EN with S5 (0) or S3 (1)
      return (byte & 0x20) != 0 && (byte & 0x1c) <= 0x04 ? byte | 0x18 : byte;
    case 0x8900:  // no "Shutdown"
      return byte == 'n' ? 'N' : byte;
    case 0xe9:
    case 0x402:
    case 0x3f8:  // the console shows it
      return static_cast<uint8_t>((byte & 0x1f) | 0x40);
    default:
      return byte;
  }
}

constexpr uint16_t kHazards[] = {0x64,  0x92,  0xcf9, 0x605, 0x8900, 0xe9,
                                 0x402, 0x3f8, 0xf4,  0xf5,  0xf6,   0xf7};

// False: not to be written at all.
bool tame(uint16_t port, uint32_t width, uint32_t& data) {
  if ((hazards[port / 8] >> (port % 8) & 1) == 0) return true;
  for (uint32_t i = 0; i < width; ++i) {
    if (is_debug_exit(port + i)) return false;
    const uint32_t byte = tame_byte(port + i, static_cast<uint8_t>(data >> (8 * i)));
    data = (data & ~(0xffu << (8 * i))) | byte << (8 * i);
  }
  return true;
}

void out(uint16_t port, uint32_t width, uint32_t data) {
  if (width == 1)
    out8(port, static_cast<uint8_t>(data));
  else if (width == 2)
    out16(port, static_cast<uint16_t>(data));
  else
    out32(port, data);
}

void in(uint16_t port, uint32_t width) {
  if (width == 1)
    in8(port);
  else if (width == 2)
    in16(port);
  else
    in32(port);
}

void string_out(uint16_t port, uint32_t width, uint64_t count) {
  const void* source = scratch;
  if (width == 1)
    asm volatile("rep outsb" : "+S"(source), "+c"(count) : "d"(port) : "memory");
  else if (width == 2)
    asm volatile("rep outsw" : "+S"(source), "+c"(count) : "d"(port) : "memory");
  else
    asm volatile("rep outsl" : "+S"(source), "+c"(count) : "d"(port) : "memory");
}

void string_in(uint16_t port, uint32_t width, uint64_t count) {
  void* target = scratch;
  if (width == 1)
    asm volatile("rep insb" : "+D"(target), "+c"(count) : "d"(port) : "memory");
  else if (width == 2)
    asm volatile("rep insw" : "+D"(target), "+c"(count) : "d"(port) : "memory");
  else
    asm volatile("rep insl" : "+D"(target), "+c"(count) : "d"(port) : "memory");
}

// Mostly a few elements; at times more are read than the page that KVM hands over at once.
void access_string(uint16_t port, uint32_t width, bool is_write, uint32_t data, uint32_t r) {
  const uint32_t count = r & 0xf;
  ++fuzzer.operations;
  if (!is_write) return string_in(port, width, (r & 0x1f0) == 0 ? 1100 : count);
  for (uint32_t i = 0; i < count * width; ++i)
    scratch[i] = static_cast<uint8_t>(data >> (8 * (i % width)));
  string_out(port, width, count);
}

template <typename T>
void access_as(uintptr_t address, T data, uint32_t count, uint32_t writes) {
  fuzzer.operations += count;
  for (; count != 0; --count, writes >>= 1) {
    if ((writes & 1) != 0)
      mmio_write<T>(address, data);
    else
      mmio_read<T>(address);
  }
}

}  // namespace

uint32_t value() {
  const uint64_t r = rng().next();
  const auto word = static_cast<uint32_t>(r >> 32);
  switch (r >> 30 & 3) {
    case 0:
      return word;
    case 1:
      return word & static_cast<uint32_t>(r);
    case 2:
      return 1u << (word & 31);
    default:
      return (word & 0x100) != 0 ? ~(word & 0xf) : word & 0xf;
  }
}

void learn_hazards() {
  for (const uint16_t hazard : kHazards)
    for (uint32_t port = hazard - 3u; port <= hazard; ++port)
      hazards[port / 8] = static_cast<uint8_t>(hazards[port / 8] | 1u << (port % 8));
}

void access_port(uint16_t port) {
  const uint32_t r = rng().next32();
  constexpr uint8_t kWidths[] = {1, 1, 2, 4};
  const uint32_t width = kWidths[r & 3];
  uint32_t writes = r >> 2 & 15;  // a bit for each access
  uint32_t count = 1 + (r >> 6 & 3);
  uint32_t data = 0;
  if (writes != 0) {
    data = value();
    if (!tame(port, width, data)) writes = 0;
  }
  if ((r >> 8 & 0x3f) == 0) return access_string(port, width, writes != 0, data, r >> 16);
  fuzzer.operations += count;
  for (; count != 0; --count, writes >>= 1) {
    if ((writes & 1) != 0)
      out(port, width, data);
    else
      in(port, width);
  }
}

void access_memory(uintptr_t address, uint32_t data) {
  const uint32_t r = rng().next32();
  if ((r >> 12 & 0x7f) == 0) {  // string instructions go through the same door
    ++fuzzer.operations;
    void* target = scratch;
    const auto* source = reinterpret_cast<const void*>(address);
    uint64_t count = r >> 20 & 7;
    asm volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
    return;
  }
  const uint32_t count = 1 + (r >> 3 & 1);
  const uint32_t writes = r >> 4 & 3;
  switch (r & 7) {
    case 0:
      return access_as(address, static_cast<uint8_t>(data), count, writes);
    case 1:
      return access_as(address, static_cast<uint16_t>(data), count, writes);
    case 2:
    case 3:
      return access_as(address, uint64_t{r} << 32 | data, count, writes);
    default:
      return access_as(address, data, count, writes);
  }
}

}  // namespace fuzz
