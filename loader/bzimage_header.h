// Where a bzImage's real-mode kernel header has what (Documentation/x86/boot.rst). boot_params has
// the header at the same offsets (arch/x86/include/uapi/asm/bootparam.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmm::bzimage_header {

constexpr std::size_t kSetupSects = 0x1f1;  // the header's first byte
constexpr std::size_t kSysSize = 0x1f4;     // of the code behind the setup, in 16 bytes
constexpr std::size_t kVidMode = 0x1fa;
constexpr std::size_t kBootFlag = 0x1fe;
constexpr std::size_t kJump = 0x200;  // the byte after it says how long the header is
constexpr std::size_t kHeader = 0x202;
constexpr std::size_t kVersion = 0x206;
constexpr std::size_t kKernelVersion = 0x20e;  // an offset from 200h of the file
constexpr std::size_t kTypeOfLoader = 0x210;
constexpr std::size_t kLoadFlags = 0x211;
constexpr std::size_t kCode32Start = 0x214;
constexpr std::size_t kRamdiskImage = 0x218;
constexpr std::size_t kRamdiskSize = 0x21c;
constexpr std::size_t kCmdLinePtr = 0x228;
constexpr std::size_t kInitrdAddrMax = 0x22c;      // 203h
constexpr std::size_t kRelocatableKernel = 0x234;  // 205h
constexpr std::size_t kXLoadFlags = 0x236;         // 20Ch
constexpr std::size_t kCmdLineSize = 0x238;        // 206h
constexpr std::size_t kPayloadOffset = 0x248;      // 208h
constexpr std::size_t kPayloadLength = 0x24c;      // 208h
constexpr std::size_t kPrefAddress = 0x258;        // 20Ah
constexpr std::size_t kInitSize = 0x260;           // 20Ah

constexpr std::size_t kEnd = 0x268;  // of boot protocol 20Ch and later

constexpr std::uint16_t kBootMark = 0xaa55;
constexpr std::uint32_t kHdrS = 0x53726448;
constexpr std::uint8_t kLoadedHigh = 1U << 0;  // loadflags: the kernel lies at 1 MiB or above
constexpr std::uint16_t kXlfKernel64 =
    1U << 0;  // xloadflags: there is an entry at 200h in 64-bit mode

}  // namespace vmm::bzimage_header
