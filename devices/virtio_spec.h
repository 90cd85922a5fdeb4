// Names of the VIRTIO specification 1.2 that the transport's parts share.
#pragma once

#include <cstdint>

namespace vmm::spec {

// 2.1: device status.
inline constexpr std::uint8_t STATUS_DRIVER_OK = 0x04;
inline constexpr std::uint8_t STATUS_FEATURES_OK = 0x08;
inline constexpr std::uint8_t STATUS_DEVICE_NEEDS_RESET = 0x40;
inline constexpr std::uint8_t STATUS_FAILED = 0x80;

// 6: reserved feature bits.
inline constexpr unsigned F_INDIRECT_DESC = 28;
inline constexpr unsigned F_EVENT_IDX = 29;
inline constexpr unsigned F_VERSION_1 = 32;

// 4.1.4.5: ISR status.
inline constexpr std::uint8_t ISR_QUEUE = 0x01;
inline constexpr std::uint8_t ISR_CONFIG = 0x02;

// PCI command and status, PCI 3.0 sections 6.2.2 and 6.2.3.
inline constexpr std::uint16_t COMMAND_IO = 0x0001;
inline constexpr std::uint16_t COMMAND_MEMORY = 0x0002;
inline constexpr std::uint16_t COMMAND_MASTER = 0x0004;
inline constexpr std::uint16_t COMMAND_INTX_DISABLE = 0x0400;
inline constexpr std::uint16_t STATUS_INTERRUPT = 0x0008;
inline constexpr std::uint16_t STATUS_CAPABILITIES = 0x0010;

}  // namespace vmm::spec
