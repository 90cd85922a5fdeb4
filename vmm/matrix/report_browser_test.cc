// The page in a real browser: headless Chromium reads what html_report() writes about guests that
// print whatever they like. VMM_PAGE_DIR=DIR keeps page and pictures there, to be looked at.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <regex>

#include "vmm/base/process.h"
#include "vmm/matrix/record_fake.h"
#include "vmm/matrix/report_html.h"

namespace vmm {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kEvil =
    "</script><script>document.title='PWNED'</script><img src=x "
    "onerror=\"document.title='PWNED'\">";

const std::string kLight = "--blink-settings=preferredColorScheme=1";
const std::string kDark = "--blink-settings=preferredColorScheme=0";

std::size_t count(const std::string& text, const char* pattern) {
  const std::regex regex(pattern);
  return static_cast<std::size_t>(
      std::distance(std::sregex_iterator(text.begin(), text.end(), regex), {}));
}

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  const std::size_t at = text.find(what);
  if (at == text.npos) ADD_FAILURE() << "'" << what << "' is not in the page";
  return at == text.npos ? text : text.replace(at, what.size(), by);
}

// A picture that libpng writes and a browser shows.
void write_picture(const std::string& path, unsigned width, unsigned height) {
  std::vector<png_byte> pixels(std::size_t{width} * height * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<png_byte>(i % 3 == 2 ? 128 + i / width % 100 : i / width % 60);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = PNG_FORMAT_RGB;
  ASSERT_NE(png_image_write_to_file(&image, path.c_str(), 0, pixels.data(), 0, nullptr), 0);
}

struct Picture {
  unsigned width = 0, height = 0;
  double brightness = 0;  // 0 to 255
};

Picture read_picture(const std::string& path) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  Picture picture;
  if (png_image_begin_read_from_file(&image, path.c_str()) == 0) return picture;
  image.format = PNG_FORMAT_GRAY;
  std::vector<png_byte> pixels(PNG_IMAGE_SIZE(image));
  if (png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr) == 0) return picture;
  double sum = 0;
  for (const png_byte pixel : pixels) sum += pixel;
  return {image.width, image.height, sum / static_cast<double>(pixels.size())};
}

class PageInBrowser : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"chromium", "chromium-browser", "google-chrome"})
      if (browser_.empty()) browser_ = find_program(name).value_or("");
    if (browser_.empty()) GTEST_SKIP() << "no Chromium here: tools/setup test installs it";
    if (const char* kept = ::getenv("VMM_PAGE_DIR")) {
      directory_ = kept;
      std::filesystem::create_directories(directory_);
    } else {
      std::string name = testing::TempDir() + "vmm-browser-XXXXXX";
      directory_ = ::mkdtemp(name.data());
    }
    make_run();
    const auto page = html_report(run_, directory_);
    ASSERT_TRUE(page) << page.error().text();
    page_ = *page;
    write("report.html", page_);
  }
  ~PageInBrowser() override {
    if (!directory_.empty() && ::getenv("VMM_PAGE_DIR") == nullptr)
      std::filesystem::remove_all(directory_);
  }

  // Guests x models x hosts, a verdict of each kind among them.
  void make_run() {
    const std::vector<std::string> guests = {"hello",    "exit-codes", "one-gig-pages",
                                             "nx-stack", "smp-start",  "svm-hello",
                                             "vga-text", "virtio-blk"};
    std::vector<CellRecord> cells;
    for (const std::string& guest : guests)
      for (const char* model : {"epyc", "epyc,-pdpe1gb", "haswell"})
        for (const char* on : {"host", "svm"}) cells.push_back(fake_cell(guest, model, on));
    const auto spoil = [&](std::size_t index, CellVerdict verdict, std::string reason) {
      CellRecord cell = fake_cell(cells[index].axes[0].value, cells[index].axes[1].value,
                                  cells[index].axes[2].value, verdict, std::move(reason));
      cell.attempts[0].directory = "cells/" + std::to_string(index) + "/1";
      cells[index] = std::move(cell);
    };
    spoil(7, CellVerdict::Fail, std::string(kEvil));
    spoil(13, CellVerdict::XPass, "it passed, although it is known to fail");
    spoil(15, CellVerdict::Crash, "triple fault: a PDPTE has PS set, the CPU has no pdpe1gb");
    spoil(22, CellVerdict::Timeout, "no line matched 'ready' within 5 s");
    spoil(27, CellVerdict::Flaky, "line \"second CPU is up\" is missing");
    spoil(29, CellVerdict::XFail, "known: the second processor is not in the MADT");
    for (const std::size_t i : {30u, 32u, 34u, 35u})
      spoil(i, CellVerdict::Skip, "this host cannot provide svm");
    spoil(40, CellVerdict::Infra, "the lab died");
    cells[7].link = "javascript:document.title='PWNED'";
    cells[7].attempts[0].results.passed = 3;
    cells[7].attempts[0].results.failed = 1;
    cells[7].attempts[0].results.failures = {std::string(kEvil)};
    cells[15].link = "https://example.org/issues/1";
    cells[15].attempts[0].rule = "pdpte-ps-without-pdpe1gb";
    cells[34].cpu.missing = {"svm", "npt"};
    for (const std::size_t i : {7u, 15u, 22u, 27u, 40u}) write_files(i);
    run_ = fake_run(std::move(cells));
    run_.header.cells.push_back("never " + std::string(kEvil));
  }

  void write_files(std::size_t index) const {
    const std::string cell = "cells/" + std::to_string(index) + "/1/";
    std::filesystem::create_directories(directory_ + "/" + cell);
    std::string log;
    for (int i = 0; i < 40; ++i)
      log += "[    0." + std::to_string(100000 + i * 731) +
             "] smp: Bringing up secondary CPUs ...\r\n";
    write(cell + "serial.log", log + "\x1b[2J\x1b[1;31mred\x1b[0m zero\0bell\x07 "s +
                                   std::string(kEvil) + "\r\nlast line\r\n");
    write(cell + "report.txt", "vmm: the guest triple-faulted on vCPU 0\n");
    write(cell + "outcome.json",
          R"json({"cause":{"card":[
            "TRIPLE FAULT on vCPU 0 at 0x0000000000101a3c (long mode, CPL 0)", "",
            "  cause   PS is set in a PDPTE; this CPU has no pdpe1gb",
            "</pre><script>1</script>"]}})json");
    write_picture(directory_ + "/" + cell + "screen.png", 320, 200);
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ + "/" + name, std::ios::binary) << text;
  }

  std::string browse(const std::string& page, std::vector<std::string> options) const {
    const std::string profile = directory_ + "/profile";
    std::vector<std::string> argv = {"env",
                                     "HOME=" + profile,
                                     browser_,
                                     "--headless",
                                     "--no-sandbox",
                                     "--disable-gpu",
                                     "--disable-dev-shm-usage",
                                     "--hide-scrollbars",
                                     "--run-all-compositor-stages-before-draw",
                                     "--virtual-time-budget=10000",
                                     "--user-data-dir=" + profile};
    argv.insert(argv.end(), options.begin(), options.end());
    argv.push_back("file://" + std::filesystem::absolute(directory_).string() + "/" + page);
    const auto run = run_tool(argv, directory_, std::chrono::seconds(120));
    std::filesystem::remove_all(profile);
    if (!run) {
      ADD_FAILURE() << run.error().text();
      return {};
    }
    EXPECT_TRUE(run->ok) << run->death;
    return run->output;
  }
  std::string dom(const std::string& page, const std::string& scheme = kLight) const {
    return browse(page, {"--dump-dom", scheme});
  }
  // What a script of the test sees in the page: it puts lines into `said`. The page's own policy
  // would not let it run.
  std::string ask(const std::string& script, const std::string& scheme = kLight) const {
    std::string page = std::regex_replace(page_, std::regex("script-src 'sha256-[^']*'"),
                                          "script-src 'unsafe-inline'");
    page = replaced(
        page, "</body>",
        "<script>const said = [];\n" + script +
            "\nbyId('data').textContent = 'SAID' + said.join('|') + 'DIAS';</script></body>");
    write("asked.html", page);
    const std::string text = dom("asked.html", scheme);
    std::smatch match;
    if (std::regex_search(text, match, std::regex("SAID([^<]*)DIAS"))) return match[1];
    ADD_FAILURE() << "the script did not come to its end:\n" << text.substr(text.size() / 2);
    return {};
  }

  std::string browser_;
  std::string directory_;
  RunRecord run_;
  std::string page_;
};

TEST_F(PageInBrowser, shows_the_grid_and_makes_nothing_of_what_guests_print) {
  const std::string text = dom("report.html#cell=8");
  EXPECT_EQ(count(text, "<button[^>]*class=\"v v-[a-z]+\""), 48u);
  EXPECT_EQ(count(text, "<button[^>]*class=\"v v-pass\""), 37u);
  EXPECT_EQ(count(text, "<button[^>]*class=\"v v-crash\""), 1u);
  EXPECT_EQ(count(text, "<script"), 2u);
  EXPECT_EQ(count(text, "<img"), 1u) << "the screen of the open cell";
  EXPECT_EQ(count(text, "<img[^>]* src=\"data:image/png;base64,"), 1u);
  EXPECT_EQ(count(text, "<title>all: 49 cells: [^<]*</title>"), 1u) << "nobody changed it";
  EXPECT_EQ(count(text, "href=\"javascript:"), 0u);

  // The panel of the cell that the address names.
  ASSERT_EQ(count(text, "<aside id=\"panel\" class=\"panel\" aria-labelledby=\"panel-title\">"),
            1u);
  const std::string panel =
      text.substr(text.find("<aside"), text.find("</aside>") - text.find("<aside"));
  EXPECT_THAT(panel, HasSubstr("exit-codes</h2>"));
  EXPECT_THAT(panel, HasSubstr("&lt;/script&gt;&lt;script&gt;document.title"));
  EXPECT_THAT(panel, HasSubstr("\nred zero^@bell^G &lt;/script&gt;"));
  EXPECT_THAT(panel, HasSubstr("last line"));
  EXPECT_THAT(panel, HasSubstr("&lt;/pre&gt;&lt;script&gt;1"));
  EXPECT_THAT(panel, HasSubstr("3 passed, 1 failed"));
  EXPECT_THAT(panel, HasSubstr("vmm run --cpu-model epyc --on svm exit-codes.elf"));
  EXPECT_THAT(panel, HasSubstr(std::string(64, 'b')));
}

TEST_F(PageInBrowser, runs_no_script_but_its_own) {
  write("report.html", replaced(page_, "</body>",
                                "<script>document.title = 'PWNED'</script>"
                                "<img src=x onerror=\"document.title = 'PWNED'\"></body>"));
  const std::string text = dom("report.html");
  EXPECT_THAT(text, Not(HasSubstr("<title>PWNED")));
  EXPECT_EQ(count(text, "<button[^>]*class=\"v v-pass\""), 37u) << "its own did run";
}

TEST_F(PageInBrowser, is_used_from_the_keyboard) {
  EXPECT_EQ(
      ask(R"js(
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const here = () => document.activeElement.getAttribute("aria-label");
press("/");
said.push(document.activeElement.id);
document.querySelector("#grid button").focus();
said.push(here());
press("ArrowRight"); press("ArrowRight"); press("ArrowDown");
said.push(here());
press("ArrowUp"); press("ArrowUp");
said.push(here());
press("End"); press("ArrowRight");
said.push(here());
said.push(document.querySelectorAll("#grid [tabindex='0']").length);
document.activeElement.click();
said.push(byId("panel").hidden, location.hash, document.querySelectorAll("#grid [aria-current]").length);
press("Escape");
said.push(byId("panel").hidden, location.hash, here());
)js"),
      "filter|hello cpu-model=epyc on=host: PASS|exit-codes cpu-model=epyc,-pdpe1gb on=host: PASS"
      "|hello cpu-model=epyc,-pdpe1gb on=host: PASS|hello cpu-model=haswell on=svm: PASS|1"
      "|false|#cell=6|1|true||hello cpu-model=haswell on=svm: PASS");
}

TEST_F(PageInBrowser, filters_and_turns_the_grid) {
  EXPECT_EQ(
      ask(R"js(
const rows = () => document.querySelectorAll("#grid tbody tr").length;
const lit = () => document.querySelectorAll("#grid .v:not(.dim)").length;
const chip = (word) => [...document.querySelectorAll(".chip")].find((c) => c.textContent.startsWith(word));
const words = (text) => { filter.words = text.split(" "); update(); };
said.push(rows(), lit());
chip("SKIP").click();
said.push(rows(), lit(), byId("shown").textContent);
chip("CRASH").click();
said.push(rows(), lit());
chip("SKIP").click(); chip("CRASH").click();
words("svm npt");
said.push(lit(), byId("shown").textContent);
words("nothing at all");
said.push(rows(), byId("grid").textContent);
filter.words = []; update();
const axis = (name, place) => {
  const select = document.querySelector("[aria-label='Where " + name + " is shown']");
  select.value = place;
  select.dispatchEvent(new Event("change"));
};
axis("guest", "columns"); axis("cpu-model", "rows"); axis("on", "folded");
said.push(rows(), lit(), document.querySelectorAll("#grid thead tr:last-child th").length);
said.push([...document.querySelectorAll("#grid .v-crash")].map((b) => b.textContent).join());
byId("view-reasons").click();
said.push(byId("grid").hidden, document.querySelectorAll("#reasons .group").length);
)js"),
      "8|48|1|4|4 cells of 48|2|5|1|1 cell of 48|0|No cell matches.|3|24|9|CRASHof 2|true|10");
}

TEST_F(PageInBrowser, links_to_the_web_and_nowhere_else) {
  EXPECT_EQ(ask(R"js(
openCell(cells[15]);
said.push([...panel.element.querySelectorAll("a")].map((a) => a.href + " " + a.rel).join());
openCell(cells[7]);
said.push(panel.element.querySelectorAll("a").length, panel.element.textContent.includes("javascript:"));
)js"),
            "https://example.org/issues/1 noopener noreferrer|0|true");
}

// A text on its ground as the guidelines for accessible pages want it (WCAG 2, 1.4.3).
TEST_F(PageInBrowser, its_words_can_be_read) {
  const std::string script = R"js(
const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = (color) => {
  const [r, g, b] = color.match(/[\d.]+/g).map(Number);
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const color = getComputedStyle(e).backgroundColor;
    if (color !== "rgba(0, 0, 0, 0)" && color !== "transparent") return color;
  }
  return "rgb(255, 255, 255)";
};
openCell(cells[15]);
const seen = document.querySelectorAll(".v, .facts, .axes label, #grid th, #panel dt, #panel h3, #panel pre, .keys, a, .note");
let bad = 0;
for (const e of seen) {
  const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) ++bad, said.push(e.className + " " + e.textContent.slice(0, 20) + ((a + 0.05) / (b + 0.05)).toFixed(2));
}
said.push(seen.length > 80, bad);
)js";
  EXPECT_EQ(ask(script, kLight), "true|0");
  EXPECT_EQ(ask(script, kDark), "true|0");
}

TEST_F(PageInBrowser, is_light_or_dark_as_the_reader_has_it) {
  const auto shoot = [&](const std::string& name, const std::string& scheme, const char* size,
                         const std::string& page) {
    browse(page, {scheme, "--window-size="s + size, "--screenshot=" + directory_ + "/" + name});
    return read_picture(directory_ + "/" + name);
  };
  const Picture light = shoot("light.png", kLight, "1400,900", "report.html");
  EXPECT_EQ(light.width, 1400u);
  EXPECT_EQ(light.height, 900u);
  EXPECT_GT(light.brightness, 200);
  EXPECT_LT(light.brightness, 253) << "an empty page";
  const Picture dark = shoot("dark.png", kDark, "1400,900", "report.html#cell=16");
  EXPECT_GT(dark.brightness, 20);
  EXPECT_LT(dark.brightness, 80);
  EXPECT_GT(shoot("narrow.png", kLight, "500,900", "report.html#cell=8").brightness, 200);
}

}  // namespace
}  // namespace vmm
