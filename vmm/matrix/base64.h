// Base 64 (RFC 4648, section 4), for what is carried in a page.
#pragma once

#include <string>
#include <string_view>

namespace vmm {

std::string base64(std::string_view bytes);

}  // namespace vmm
