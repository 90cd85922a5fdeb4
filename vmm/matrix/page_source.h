// The page of a report as its authors wrote it (page/), carried in the library.
#pragma once

#include <string>
#include <string_view>

namespace vmm {

// page.html, with {{NAME}} where something is put in.
std::string_view page_frame();
std::string_view page_style();
// All of the scripts, as one.
std::string page_script();

}  // namespace vmm
