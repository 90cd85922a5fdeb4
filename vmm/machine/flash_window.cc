#include "vmm/machine/flash_window.h"

#include <utility>

namespace vmm {

FlashWindow::FlashWindow(std::string name, FlashStore& store, std::function<void(bool)> set_memory)
    : chip_(std::move(name), store), set_memory_(std::move(set_memory)) {
  // Before the access that changed the mode ends: the guest's next read must see it.
  chip_.on_mode = [this](bool reads_array) {
    reads_ = 0;
    if (!reads_array) map(false);
  };
}

void FlashWindow::map(bool memory) {
  if (memory == memory_) return;
  memory_ = memory;
  reads_ = 0;
  set_memory_(memory);
}

void FlashWindow::reset() {
  chip_.reset();
  map(true);
}

Access FlashWindow::read(std::uint64_t offset, std::span<std::uint8_t> data) {
  const Access access = chip_.read(offset, data);
  if (access == Access::Ok && chip_.reads_array() && ++reads_ >= kReadsToMap) map(true);
  return access;
}

Access FlashWindow::write(std::uint64_t offset, std::span<const std::uint8_t> data) {
  reads_ = 0;
  return chip_.write(offset, data);
}

// A state that was loaded tells its mode as a command does.
void FlashWindow::visit(Archive& archive) { chip_.visit(archive); }

}  // namespace vmm
