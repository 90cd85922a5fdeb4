// load_firmware(), declared in loader/boot.h.
#include "loader/boot.h"
#include "loader/firmware_image.h"
#include "vmm/base/fd.h"

namespace vmm {

Result<LoadedImage> load_firmware(const std::string& path) {
  LoadedImage image;
  image.protocol = BootProtocol::Firmware;
  image.path = path;
  image.bytes = VMM_TRY_CONTEXT(read_file(path, kMaxFirmwareSize, ErrorKind::Image), "--firmware");
  image.firmware = VMM_TRY_CONTEXT(parse_firmware(path, image.bytes), "--firmware");
  image.entry = kFirmwareEnd - 16;
  return image;
}

}  // namespace vmm
