#include "vmm/matrix/reports.h"

#include <nlohmann/json.hpp>

#include "vmm/base/fd.h"
#include "vmm/matrix/report_html.h"
#include "vmm/matrix/report_json.h"
#include "vmm/matrix/report_junit.h"
#include "vmm/matrix/report_tap.h"

namespace vmm {

Result<void> write_reports(const RunRecord& run, const std::string& directory) {
  const auto write = [&](const char* name, const std::string& text) -> Result<void> {
    const auto written = write_file(
        directory + "/" + name, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    if (!written)
      return fail(Error::internal(written.error().text())
                      .hint("the journal has every verdict: vmm matrix report " + directory +
                            " makes the reports when there is room"));
    return {};
  };
  VMM_TRY(write("results.json", json_text(json_report(run))));
  VMM_TRY(write("junit.xml", junit_report(run)));
  VMM_TRY(write("results.tap", tap_report(run)));
  const std::string page = VMM_TRY(html_report(run, directory));
  return write("report.html", page);
}

}  // namespace vmm
