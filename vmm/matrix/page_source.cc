#include "vmm/matrix/page_source.h"

// page_source.S
#define VMM_PAGE_PART(name)                        \
  extern "C" const char vmm_page_##name##_begin[]; \
  extern "C" const char vmm_page_##name##_end[];

VMM_PAGE_PART(frame)
VMM_PAGE_PART(style)
VMM_PAGE_PART(model)
VMM_PAGE_PART(grid)
VMM_PAGE_PART(panel)
VMM_PAGE_PART(main)

namespace vmm {
namespace {

std::string_view part(const char* begin, const char* end) {
  return {begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace

std::string_view page_frame() { return part(vmm_page_frame_begin, vmm_page_frame_end); }

std::string_view page_style() { return part(vmm_page_style_begin, vmm_page_style_end); }

std::string page_script() {
  std::string script;
  for (const std::string_view text : {part(vmm_page_model_begin, vmm_page_model_end),
                                      part(vmm_page_grid_begin, vmm_page_grid_end),
                                      part(vmm_page_panel_begin, vmm_page_panel_end),
                                      part(vmm_page_main_begin, vmm_page_main_end)}) {
    script += text;
    script += '\n';
  }
  return script;
}

}  // namespace vmm
