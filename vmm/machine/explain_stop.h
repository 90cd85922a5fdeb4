// Where a guest that was stopped stands, in words: the same facts as of a crash, over the live
// machine.
#pragma once

#include <string>
#include <vector>

#include "vmm/machine/explain_facts.h"

namespace vmm {

// About the processor that `facts` look at, lines of at most 120 columns: the mode, the instruction
// and what it would raise, the handler in which it stands with what is certain about the exception,
// what waits for the processor, whether its IDT could take an exception, the paging lint.
std::vector<std::string> explain_stop(const Facts& facts);

// The text behind a label, as cards have it, wrapped at 120 columns.
void add_labelled(std::vector<std::string>& lines, std::string_view label, std::string_view text);

}  // namespace vmm
