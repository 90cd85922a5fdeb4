#include "examples/uefi-hypervisor/firmware.h"

extern "C" {
void* memset(void* target, int value, __SIZE_TYPE__ count);
void* memcpy(void* target, const void* source, __SIZE_TYPE__ count);
}

namespace efi_hypervisor {

using namespace guest;

namespace {

// Widens ASCII onto the end of a path of `kPathRoom` characters, its zero included. No lists of
// strings here: they would be addresses in static data.
constexpr uint32_t kPathRoom = 64;
uint32_t append(char16_t* path, uint32_t length, const char* text) {
  for (; *text != '\0' && length + 1 < kPathRoom; ++text)
    path[length++] = static_cast<char16_t>(*text);
  path[length] = 0;
  return length;
}
uint32_t file_path(char16_t* path, const char* name, const char* extension) {
  return append(path, append(path, append(path, 0, "\\EFI\\"), name), extension);
}

}  // namespace

void Firmware::start(efi::Handle image, efi::SystemTable* table) {
  table_ = table;
  handle_ = image;
  void* loaded = nullptr;
  if (table->boot->handle_protocol(image, &efi::kLoadedImage, &loaded) != efi::kSuccess)
    fail(2, "the firmware has no loaded-image protocol for this image");
  image_ = static_cast<efi::LoadedImage*>(loaded);
  // The boot manager's five minutes are for images that hang.
  table->boot->set_watchdog_timer(0, 0, 0, nullptr);
}

void Firmware::put(char c) {
  if (length_ + 3 < sizeof line_ / sizeof line_[0]) line_[length_++] = static_cast<char16_t>(c);
}

void Firmware::add(const char* text) {
  while (*text != '\0') put(*text++);
}

// As guest.h prints them.
void Firmware::add(Hex number) {
  bool started = false;
  for (int shift = 60; shift >= 0; shift -= 4) {
    const auto digit = static_cast<unsigned>((number.value >> shift) & 15);
    started = started || digit != 0 || shift == 0;
    if (started) put(static_cast<char>(digit < 10 ? '0' + digit : 'a' + digit - 10));
  }
  put('h');
}

void Firmware::add(Decimal number) {
  uint32_t power = 1;
  while (number.value / power >= 10) power *= 10;
  for (; power != 0; power /= 10) put(static_cast<char>('0' + number.value / power % 10));
}

void Firmware::flush_line() {
  if (table_->console_out == nullptr) {
    for (uint32_t i = 0; i < length_; ++i) guest::put(static_cast<char>(line_[i]));
    guest::put('\n');
  } else {
    line_[length_++] = '\r';
    line_[length_++] = '\n';
    line_[length_] = 0;
    table_->console_out->output_string(table_->console_out, line_);
  }
  length_ = 0;
}

uint8_t* Firmware::allocate_resident(uint64_t size, uint64_t limit) {
  const uint64_t pages = (size + 4095) / 4096;
  uint64_t address = limit - 1;
  // Memory of the runtime kind stays reserved after ExitBootServices (UEFI 7.2, table 7-6).
  if (table_->boot->allocate_pages(efi::AllocateMaxAddress, efi::RuntimeServicesCode, pages,
                                   &address) != efi::kSuccess)
    return nullptr;
  auto* memory = reinterpret_cast<uint8_t*>(address);
  memset(memory, 0, pages * 4096);
  return memory;
}

bool Firmware::option(const char* word) const {
  const auto* options = static_cast<const char16_t*>(image_->load_options);
  const uint32_t count = options == nullptr ? 0 : image_->load_options_size / 2;
  for (uint32_t start = 0; start < count; ++start) {
    if (start > 0 && options[start - 1] != ' ') continue;
    uint32_t i = 0;
    while (word[i] != '\0' && start + i < count &&
           options[start + i] == static_cast<char16_t>(word[i]))
      ++i;
    const bool ends = start + i == count || options[start + i] == ' ' || options[start + i] == 0;
    if (word[i] == '\0' && ends) return true;
  }
  return false;
}

efi::MpServices* Firmware::mp_services() {
  void* services = nullptr;
  table_->boot->locate_protocol(&efi::kMpServices, nullptr, &services);
  return static_cast<efi::MpServices*>(services);
}

efi::File* Firmware::open(const char* name, const char* extension) {
  void* volume = nullptr;
  if (image_->device == nullptr ||
      table_->boot->handle_protocol(image_->device, &efi::kSimpleFileSystem, &volume) !=
          efi::kSuccess)
    return nullptr;
  auto* system = static_cast<efi::SimpleFileSystem*>(volume);
  efi::File *root = nullptr, *file = nullptr;
  if (system->open_volume(system, &root) != efi::kSuccess) return nullptr;
  char16_t path[kPathRoom];
  file_path(path, name, extension);
  const efi::Status status = root->open(root, &file, path, efi::kModeRead, 0);
  root->close(root);
  return status == efi::kSuccess ? file : nullptr;
}

// The path of the volume, then the one of the file in it (UEFI 10.3.5.4).
const void* Firmware::path_of(const char* name) {
  void* device = nullptr;
  if (table_->boot->handle_protocol(image_->device, &efi::kDevicePath, &device) != efi::kSuccess)
    return nullptr;
  const auto* from = static_cast<const uint8_t*>(device);
  constexpr uint32_t kRoom = sizeof path_ - 2 * kPathRoom - 2 * sizeof(efi::PathNode);
  uint32_t length = 0;
  for (;;) {
    efi::PathNode node;
    memcpy(&node, from + length, sizeof node);
    if (node.type == efi::kEndOfPath) break;
    if (node.length < sizeof node || length + node.length > kRoom) return nullptr;
    length += node.length;
  }
  memcpy(path_, from, length);
  char16_t name_in_volume[kPathRoom];
  const uint32_t size = 2 * (file_path(name_in_volume, name, ".EFI") + 1);
  const efi::PathNode file{efi::kMediaPath, efi::kFilePath,
                           static_cast<uint16_t>(sizeof file + size)};
  const efi::PathNode end{efi::kEndOfPath, 0xff, sizeof end};
  memcpy(path_ + length, &file, sizeof file);
  memcpy(path_ + length + sizeof file, name_in_volume, size);
  memcpy(path_ + length + sizeof file + size, &end, sizeof end);
  return path_;
}

Firmware::Started Firmware::start_image(const char* name, efi::Status& status) {
  efi::File* file = open(name, ".EFI");
  if (file == nullptr) return Started::NotThere;
  file->close(file);
  status = efi::kNotFound;
  const void* path = path_of(name);
  if (path == nullptr) return Started::NotLoaded;
  efi::Handle child = nullptr;
  status = table_->boot->load_image(false, handle_, path, nullptr, 0, &child);
  if (status != efi::kSuccess) return Started::NotLoaded;
  if (efi::File* text = open(name, ".TXT"); text != nullptr) {
    // One line of ASCII becomes UTF-16 in place, from its end.
    auto* bytes = reinterpret_cast<uint8_t*>(options_);
    uint64_t size = sizeof options_ / 2 - 1;
    void* loaded = nullptr;
    if (text->read(text, &size, bytes) == efi::kSuccess &&
        table_->boot->handle_protocol(child, &efi::kLoadedImage, &loaded) == efi::kSuccess) {
      while (size > 0 && (bytes[size - 1] == '\n' || bytes[size - 1] == '\r')) --size;
      for (uint64_t i = size; i > 0; --i) {
        bytes[2 * i - 2] = bytes[i - 1];
        bytes[2 * i - 1] = 0;
      }
      options_[size] = 0;
      auto* image = static_cast<efi::LoadedImage*>(loaded);
      image->load_options = options_;
      image->load_options_size = static_cast<uint32_t>(2 * size + 2);
    }
    text->close(text);
  }
  status = table_->boot->start_image(child, nullptr, nullptr);
  return Started::Ended;
}

void Firmware::power_off() {
  table_->runtime->reset_system(efi::ResetShutdown, efi::kSuccess, 0, nullptr);
  fail(1, "the firmware does not power the machine off");
}

}  // namespace efi_hypervisor
