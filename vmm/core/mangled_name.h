// Names as compilers write them into objects, made readable.
#pragma once

#include <string>
#include <string_view>

namespace vmm {

// "(anonymous namespace)::Map::find" for "_ZN12_GLOBAL__N_13Map4findEi": a function's name after
// the Itanium C++ ABI (5.1.3) without its arguments, as far as it is made of plain names, and
// Rust's names of the same shape without their hash. Everything else, templates and operators too,
// comes back as it is. The work is linear and the result never longer than 8 times the symbol:
// symbols are the image's and may be anything, and full demanglers can be made to print names
// without end.
std::string readable_name(std::string_view symbol);

}  // namespace vmm
