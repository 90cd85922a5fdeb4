#include "devices/vga_png.h"

#include <fmt/format.h>
#include <png.h>

#include <array>

#include "devices/vga_font.h"

namespace vmm {
namespace {

constexpr unsigned kLines = 16;  // of a character in the font

struct Canvas {
  unsigned width;
  std::vector<std::uint8_t> dots;  // indexes into the palette
  std::uint8_t& at(unsigned x, unsigned y) { return dots[static_cast<std::size_t>(y) * width + x]; }
};

void draw_cell(Canvas& canvas, const VgaSnapshot& screen, unsigned column, unsigned row) {
  const VgaCell& cell = screen.cell(column, row);
  const std::uint8_t foreground = cell.attribute & 0x0f;
  const std::uint8_t background = (cell.attribute >> 4) & (screen.blink ? 0x07 : 0x0f);
  const bool extends = screen.line_graphics && cell.character >= 0xc0 && cell.character <= 0xdf;
  for (unsigned line = 0; line < kLines; ++line) {
    const unsigned glyph = kVgaFont[cell.character * kLines + line];
    for (unsigned dot = 0; dot < screen.char_width; ++dot) {
      const bool set = dot < 8 ? ((glyph >> (7 - dot)) & 1) != 0 : extends && (glyph & 1) != 0;
      canvas.at(column * screen.char_width + dot, row * kLines + line) =
          set ? foreground : background;
    }
  }
}

void draw_cursor(Canvas& canvas, const VgaSnapshot& screen) {
  const VgaCursor& cursor = screen.cursor;
  if (!cursor.visible) return;
  // The cell's own foreground; where that equals its background nothing would show on a monitor
  // either.
  const std::uint8_t color = screen.cell(cursor.column, cursor.row).attribute & 0x0f;
  const unsigned first = cursor.first_line * kLines / screen.char_height;
  const unsigned last = ((cursor.last_line + 1) * kLines - 1) / screen.char_height;
  for (unsigned line = first; line <= last && line < kLines; ++line)
    for (unsigned dot = 0; dot < screen.char_width; ++dot)
      canvas.at(cursor.column * screen.char_width + dot, cursor.row * kLines + line) = color;
}

}  // namespace

Result<std::vector<std::uint8_t>> render_png(const VgaSnapshot& screen) {
  Canvas canvas{screen.columns * screen.char_width, {}};
  const unsigned height = screen.rows * kLines;
  canvas.dots.assign(static_cast<std::size_t>(canvas.width) * height, 0);
  std::array<std::uint8_t, 16 * 3> palette{};
  if (screen.display_enabled) {
    for (unsigned row = 0; row < screen.rows; ++row)
      for (unsigned column = 0; column < screen.columns; ++column)
        draw_cell(canvas, screen, column, row);
    draw_cursor(canvas, screen);
    for (std::size_t i = 0; i < screen.palette.size(); ++i) {
      palette[i * 3] = screen.palette[i].red;
      palette[i * 3 + 1] = screen.palette[i].green;
      palette[i * 3 + 2] = screen.palette[i].blue;
    }
  }

  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = canvas.width;
  image.height = height;
  image.format = PNG_FORMAT_RGB_COLORMAP;
  image.colormap_entries = 16;
  // An upper bound of the compressed size, which is then cut to what was written.
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::vector<std::uint8_t> png(size);
  if (png_image_write_to_memory(&image, png.data(), &size, 0, canvas.dots.data(), 0,
                                palette.data()) == 0)
    return fail(Error::internal(fmt::format("libpng: {}", image.message)));
  png.resize(size);
  return png;
}

}  // namespace vmm
