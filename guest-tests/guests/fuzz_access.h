// One access, of any width and at any alignment, to a port or to memory; and what it carries.
#pragma once

#include "guest-tests/guests/fuzz.h"

namespace fuzz {

inline guest::Random& rng() { return fuzzer.random; }

constexpr uintptr_t kIoapic = 0xfec00000;

// Random, sparse, or at an edge.
uint32_t value();
// Finds the ports at which some values end the run.
void learn_hazards();

// At one port, one to four times: a register may step through its bytes. Widths, directions and
// strings come from one random number.
void access_port(uint16_t port);
// The same at one address; half of the accesses have four bytes.
void access_memory(uintptr_t address, uint32_t data);

// INIT would take this processor or another away, SMI lead two of them to one SMRAM.
inline uint32_t without_init(uint32_t command) {
  const uint32_t mode = command >> 8 & 7;
  if (mode == 5 || (mode == 2 && !fuzzer.alone)) return command & ~0x700u;
  return command;
}

// A register of a page: on its 16 bytes as a rule, anywhere and across the end at times.
inline uint32_t page_offset() {
  const uint32_t r = rng().next32();
  return (r & 7) == 0 ? r >> 12 & 0xfff : r >> 12 & 0x3f0;
}

template <uint16_t... kPorts>
void some_port() {
  constexpr uint16_t ports[] = {kPorts...};
  access_port(ports[rng().below(sizeof...(kPorts))]);
}

template <uint16_t kFirst, uint16_t kCount>
void port_range() {
  access_port(static_cast<uint16_t>(kFirst + rng().below(kCount)));
}

}  // namespace fuzz
