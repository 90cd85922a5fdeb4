// The registers of a virtio device: legacy in ports (VIRTIO 1.2, section 4.1.4.10), modern in
// memory (4.1.4.3 to 4.1.4.6).
#include <algorithm>

#include "devices/virtio_pci.h"
#include "devices/virtio_spec.h"
#include "vmm/base/bytes.h"

namespace vmm {
namespace spec {
namespace {

constexpr std::uint64_t LEGACY_DEVICE_FEATURES = 0x00, LEGACY_DRIVER_FEATURES = 0x04,
                        LEGACY_QUEUE_ADDRESS = 0x08, LEGACY_QUEUE_SIZE = 0x0c,
                        LEGACY_QUEUE_SELECT = 0x0e, LEGACY_QUEUE_NOTIFY = 0x10,
                        LEGACY_STATUS = 0x12, LEGACY_ISR = 0x13, LEGACY_CONFIG_VECTOR = 0x14,
                        LEGACY_QUEUE_VECTOR = 0x16;
constexpr unsigned LEGACY_PAGE_SHIFT = 12;

constexpr std::uint64_t COMMON_FEATURE_SELECT = 0x00, COMMON_FEATURES = 0x04,
                        COMMON_DRIVER_SELECT = 0x08, COMMON_DRIVER_FEATURES = 0x0c,
                        COMMON_CONFIG_VECTOR = 0x10, COMMON_QUEUES = 0x12, COMMON_STATUS = 0x14,
                        COMMON_GENERATION = 0x15, COMMON_QUEUE_SELECT = 0x16,
                        COMMON_QUEUE_SIZE = 0x18, COMMON_QUEUE_VECTOR = 0x1a,
                        COMMON_QUEUE_ENABLE = 0x1c, COMMON_QUEUE_NOTIFY_OFF = 0x1e,
                        COMMON_DESCRIPTORS = 0x20, COMMON_DRIVER = 0x28, COMMON_DEVICE = 0x30,
                        COMMON_END = 0x38;
constexpr std::uint64_t ISR_OFFSET = 0x1000, DEVICE_OFFSET = 0x2000, NOTIFY_OFFSET = 0x3000;

}  // namespace
}  // namespace spec

namespace {

// The width of a register of the common configuration; 0 where none begins.
std::size_t common_width(std::uint64_t offset) {
  if (offset >= spec::COMMON_END) return 0;
  if (offset >= spec::COMMON_DESCRIPTORS || offset < spec::COMMON_CONFIG_VECTOR)
    return offset % 4 == 0 ? 4 : 0;
  if (offset == spec::COMMON_STATUS || offset == spec::COMMON_GENERATION) return 1;
  return offset % 2 == 0 ? 2 : 0;
}

// 4.1.5.1.2: a vector that is not there reads back as none.
std::uint16_t valid_vector(std::uint32_t vector) {
  return vector < MsixState::kVectors ? static_cast<std::uint16_t>(vector) : VirtioPci::kNoVector;
}

void replace_half(Gpa& address, bool high, std::uint32_t value) {
  const unsigned shift = high ? 32 : 0;
  address = (address & ~(low_mask(32) << shift)) | std::uint64_t{value} << shift;
}

}  // namespace

// 4.1.5.3: reading the ISR clears it and lowers the line.
std::uint8_t VirtioPci::take_isr() {
  const std::uint8_t isr = std::exchange(state_.isr, std::uint8_t{0});
  update_line();
  return isr;
}

// With MSI-X there are two more registers in front of the device's.
std::uint64_t VirtioPci::legacy_config_offset() const {
  return spec::LEGACY_CONFIG_VECTOR + (state_.msix.enabled ? 4 : 0);
}

// Of any width, as drivers copy it; zeroes behind its end.
Access VirtioPci::read_device_config(std::uint64_t offset, std::span<std::uint8_t> data) const {
  const auto config = device_config();
  for (std::size_t i = 0; i < data.size(); ++i)
    data[i] = offset + i < config.size() ? config[offset + i] : std::uint8_t{0};
  return Access::Ok;
}

Access VirtioPci::read_legacy(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset >= legacy_config_offset())
    return read_device_config(offset - legacy_config_offset(), data);
  const auto answer = [data](std::size_t width, std::uint64_t value) {
    if (data.size() != width) return Access::BadWidth;
    store_uint(data, value);
    return Access::Ok;
  };
  const bool queue_0 = state_.queue_select == 0;
  switch (offset) {
    case spec::LEGACY_DEVICE_FEATURES:
      return answer(4, offered() & low_mask(32));
    case spec::LEGACY_DRIVER_FEATURES:
      return answer(4, state_.driver_features & low_mask(32));
    case spec::LEGACY_QUEUE_ADDRESS:
      return answer(4, queue_0 && state_.queue.enabled
                           ? state_.queue.descriptors >> spec::LEGACY_PAGE_SHIFT
                           : 0);
    case spec::LEGACY_QUEUE_SIZE:
      return answer(2, queue_0 ? VirtQueueState::kMaxSize : 0);
    case spec::LEGACY_QUEUE_SELECT:
      return answer(2, state_.queue_select);
    case spec::LEGACY_QUEUE_NOTIFY:
      return answer(2, 0);
    case spec::LEGACY_STATUS:
      return answer(1, status());
    case spec::LEGACY_ISR:
      return data.size() == 1 ? answer(1, take_isr()) : Access::BadWidth;
    case spec::LEGACY_CONFIG_VECTOR:
      return answer(2, state_.config_vector);
    case spec::LEGACY_QUEUE_VECTOR:
      return answer(2, queue_0 ? state_.queue_vector : kNoVector);
    default:
      return Access::NoRegister;
  }
}

Access VirtioPci::write_legacy(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset >= legacy_config_offset()) return Access::Ok;  // nothing of it can be written
  const std::uint64_t value = load_uint(data);
  const auto wide = [&](std::size_t width) { return data.size() == width; };
  switch (offset) {
    case spec::LEGACY_DRIVER_FEATURES:
      if (!wide(4)) return Access::BadWidth;
      set_driver_features(0, static_cast<std::uint32_t>(value));
      return Access::Ok;
    case spec::LEGACY_QUEUE_ADDRESS: {
      if (!wide(4)) return Access::BadWidth;
      if (state_.queue_select != 0) return Access::Ok;
      // 2.7.2: one block of pages, the used ring on a page of its own behind the others.
      VirtQueueState queue;
      queue.descriptors = value << spec::LEGACY_PAGE_SHIFT;
      queue.available = queue.descriptors + 16u * queue.size;
      queue.used = align_up(queue.available + 6 + 2u * queue.size, 4_KiB);
      state_.queue = value != 0 ? queue : VirtQueueState{};
      forget();
      if (value != 0) enable_queue();
      return Access::Ok;
    }
    case spec::LEGACY_QUEUE_SELECT:
      if (!wide(2)) return Access::BadWidth;
      state_.queue_select = static_cast<std::uint16_t>(value);
      return Access::Ok;
    case spec::LEGACY_QUEUE_NOTIFY:
      if (!wide(2)) return Access::BadWidth;
      notify(value);
      return Access::Ok;
    case spec::LEGACY_STATUS:
      if (!wide(1)) return Access::BadWidth;
      set_status(static_cast<std::uint8_t>(value));
      return Access::Ok;
    case spec::LEGACY_CONFIG_VECTOR:
      if (!wide(2)) return Access::BadWidth;
      state_.config_vector = valid_vector(static_cast<std::uint32_t>(value));
      return Access::Ok;
    case spec::LEGACY_QUEUE_VECTOR:
      if (!wide(2)) return Access::BadWidth;
      if (state_.queue_select == 0)
        state_.queue_vector = valid_vector(static_cast<std::uint32_t>(value));
      return Access::Ok;
    case spec::LEGACY_DEVICE_FEATURES:
    case spec::LEGACY_QUEUE_SIZE:
    case spec::LEGACY_ISR:
      return Access::Ok;  // read-only
    default:
      return Access::NoRegister;
  }
}

Access VirtioPci::read_modern(std::uint64_t offset, std::span<std::uint8_t> data) {
  if (offset == spec::ISR_OFFSET) {
    if (data.size() != 1) return Access::BadWidth;
    data[0] = take_isr();
    return Access::Ok;
  }
  if (offset >= spec::DEVICE_OFFSET && offset < spec::DEVICE_OFFSET + kConfigSize)
    return read_device_config(offset - spec::DEVICE_OFFSET, data);
  if (offset == spec::NOTIFY_OFFSET) {
    fill_ones(data);  // write-only
    return Access::Ok;
  }
  const std::size_t width = common_width(offset);
  if (width == 0) return Access::NoRegister;
  const VirtQueueState& queue = state_.queue;
  const bool queue_0 = state_.queue_select == 0;
  const auto half = [offset](std::uint64_t value) { return value >> (offset % 8 == 4 ? 32 : 0); };
  // The 64-bit addresses may be read at once.
  const bool whole =
      data.size() == 8 && width == 4 && offset % 8 == 0 && offset >= spec::COMMON_DESCRIPTORS;
  if (data.size() != width && !whole) return Access::BadWidth;
  std::uint64_t value = 0;
  switch (whole ? offset : align_down(offset, width)) {
    case spec::COMMON_FEATURE_SELECT:
      value = state_.device_feature_select;
      break;
    case spec::COMMON_FEATURES:
      value = state_.device_feature_select < 2 ? offered() >> 32 * state_.device_feature_select : 0;
      break;
    case spec::COMMON_DRIVER_SELECT:
      value = state_.driver_feature_select;
      break;
    case spec::COMMON_DRIVER_FEATURES:
      value = state_.driver_feature_select < 2
                  ? state_.driver_features >> 32 * state_.driver_feature_select
                  : 0;
      break;
    case spec::COMMON_CONFIG_VECTOR:
      value = state_.config_vector;
      break;
    case spec::COMMON_QUEUES:
      value = 1;
      break;
    case spec::COMMON_STATUS:
      value = status();
      break;
    case spec::COMMON_GENERATION:
      break;  // the configuration never changes
    case spec::COMMON_QUEUE_SELECT:
      value = state_.queue_select;
      break;
    case spec::COMMON_QUEUE_SIZE:
      value = queue_0 ? queue.size : 0;
      break;
    case spec::COMMON_QUEUE_VECTOR:
      value = queue_0 ? state_.queue_vector : kNoVector;
      break;
    case spec::COMMON_QUEUE_ENABLE:
      value = queue_0 && queue.enabled ? 1 : 0;
      break;
    case spec::COMMON_QUEUE_NOTIFY_OFF:
      break;
    case spec::COMMON_DESCRIPTORS:
    case spec::COMMON_DESCRIPTORS + 4:
      value = queue_0 ? half(queue.descriptors) : 0;
      break;
    case spec::COMMON_DRIVER:
    case spec::COMMON_DRIVER + 4:
      value = queue_0 ? half(queue.available) : 0;
      break;
    case spec::COMMON_DEVICE:
    case spec::COMMON_DEVICE + 4:
      value = queue_0 ? half(queue.used) : 0;
      break;
    default:
      return Access::NoRegister;
  }
  store_uint(data, value);
  return Access::Ok;
}

Access VirtioPci::write_modern(std::uint64_t offset, std::span<const std::uint8_t> data) {
  if (offset == spec::ISR_OFFSET) return data.size() == 1 ? Access::Ok : Access::BadWidth;
  if (offset >= spec::DEVICE_OFFSET && offset < spec::DEVICE_OFFSET + kConfigSize)
    return Access::Ok;  // nothing of it can be written
  if (offset == spec::NOTIFY_OFFSET) {
    // 4.1.5.2: 2 bytes; some drivers write 4.
    if (data.size() != 2 && data.size() != 4) return Access::BadWidth;
    notify(load_uint(data));
    return Access::Ok;
  }
  const std::size_t width = common_width(offset);
  if (width == 0) return Access::NoRegister;
  if (data.size() == 8 && width == 4 && offset % 8 == 0 && offset >= spec::COMMON_DESCRIPTORS) {
    (void)write_common(offset, load<std::uint32_t>(data, 0));
    return write_common(offset + 4, load<std::uint32_t>(data, 4));
  }
  if (data.size() != width) return Access::BadWidth;
  return write_common(offset, static_cast<std::uint32_t>(load_uint(data)));
}

Access VirtioPci::write_common(std::uint64_t offset, std::uint32_t value) {
  VirtQueueState& queue = state_.queue;
  const bool settable = state_.queue_select == 0 && !queue.enabled;
  const bool high = offset % 8 == 4;
  switch (offset) {
    case spec::COMMON_FEATURE_SELECT:
      state_.device_feature_select = value;
      break;
    case spec::COMMON_DRIVER_SELECT:
      state_.driver_feature_select = value;
      break;
    case spec::COMMON_DRIVER_FEATURES:
      set_driver_features(state_.driver_feature_select, value);
      break;
    case spec::COMMON_CONFIG_VECTOR:
      state_.config_vector = valid_vector(value);
      break;
    case spec::COMMON_STATUS:
      set_status(static_cast<std::uint8_t>(value));
      break;
    case spec::COMMON_QUEUE_SELECT:
      state_.queue_select = static_cast<std::uint16_t>(value);
      break;
    case spec::COMMON_QUEUE_SIZE:
      set_queue_size(static_cast<std::uint16_t>(value));
      break;
    case spec::COMMON_QUEUE_VECTOR:
      if (state_.queue_select == 0) state_.queue_vector = valid_vector(value);
      break;
    case spec::COMMON_QUEUE_ENABLE:
      if (value == 1) enable_queue();
      break;
    case spec::COMMON_DESCRIPTORS:
    case spec::COMMON_DESCRIPTORS + 4:
      if (settable) replace_half(queue.descriptors, high, value);
      break;
    case spec::COMMON_DRIVER:
    case spec::COMMON_DRIVER + 4:
      if (settable) replace_half(queue.available, high, value);
      break;
    case spec::COMMON_DEVICE:
    case spec::COMMON_DEVICE + 4:
      if (settable) replace_half(queue.used, high, value);
      break;
    default:
      break;  // read-only
  }
  return Access::Ok;
}

}  // namespace vmm
