// A run as one page for people: no network, no other file, nothing that the guests print can act in
// it. All data is JSON that the page's script makes elements of, with the text as text; a browser
// runs that one script and no other (Content-Security-Policy).
#pragma once

#include <string>

#include "vmm/base/result.h"
#include "vmm/matrix/page_data.h"
#include "vmm/matrix/record.h"

namespace vmm {

// `run_directory` is where the cells' files are. A Usage error when it cannot be read.
Result<std::string> html_report(const RunRecord& run, const std::string& run_directory,
                                const PageLimits& limits = {});

}  // namespace vmm
