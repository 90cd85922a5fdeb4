// A run as one JSON document for programs: docs/matrix.schema.json.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "vmm/matrix/record.h"

namespace vmm {

inline constexpr int kMatrixReportVersion = 1;

nlohmann::json json_report(const RunRecord& run);
// Of any document of ours: indented, ends in a newline; bytes that are no UTF-8 become U+FFFD.
std::string json_text(const nlohmann::json& document);

}  // namespace vmm
