// What guests print, made fit for reports: valid UTF-8 without anything that steers a terminal,
// breaks an XML document or turns a line's letters around.
#pragma once

#include <string>
#include <string_view>

namespace vmm {

// The first bytes of `text`, at most `max`, less a character that would be cut in two.
std::string_view cut_text(std::string_view text, std::size_t max);
// One line of at most `max` bytes. Control characters are shown as `cat -v` does ("^["), tabs
// and ends of lines as a space, bytes that are no UTF-8 and what reorders text U+FFFD; "..." where
// it was cut.
std::string clean_line(std::string_view text, std::size_t max = 1000);
// Lines of a console: terminal sequences are left out, a carriage return alone ends a line, what
// was erased with backspaces is gone, the rest as in clean_line().
std::string clean_log(std::string_view text);

}  // namespace vmm
