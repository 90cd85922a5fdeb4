// Units in types: guest addresses, virtual time, sizes.
#pragma once

#include <chrono>
#include <cstdint>

namespace vmm {

using Gpa = std::uint64_t;  // a guest physical address
using Gva = std::uint64_t;  // a guest linear address

// Time of the virtual machine since its start; it stands still while the machine is paused.
using VmTime = std::chrono::nanoseconds;

constexpr std::uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr std::uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr std::uint64_t operator""_GiB(unsigned long long n) { return n << 30; }

}  // namespace vmm
