// Why the probe does not try a feature: a list for review, one reason for each that has no
// exercise.
#pragma once

#include <optional>
#include <string_view>

namespace vmm {

// The reason, a part of a sentence; nothing for a feature that is exercised.
std::optional<std::string_view> not_exercisable(std::string_view feature);

}  // namespace vmm
