// A text screen as a PNG. In the library devices_png, so that the chips stay free of libpng.
#pragma once

#include <cstdint>
#include <vector>

#include "devices/vga_screen.h"
#include "vmm/base/result.h"

namespace vmm {

// `screen` as a PNG with a palette of its 16 colours: 720x400 for 80x25 cells of 9x16 dots. Each
// row has 16 lines whatever the guest's character height is, since there is one font; the cursor's
// shape is scaled to that. Blinking characters and the cursor are shown as in their visible phase.
// A screen that is switched off is black. The error is Internal, from libpng.
Result<std::vector<std::uint8_t>> render_png(const VgaSnapshot& screen);

}  // namespace vmm
