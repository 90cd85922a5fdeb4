// The command lines of cells, and what a plan says of them.
#include "vmm/matrix/cell_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "vmm/matrix/plan.h"
#include "vmm/matrix/runner.h"
#include "vmm/matrix/slurm.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

struct Expanded {
  MatrixSpec spec;
  Expansion expansion;

  explicit Expanded(const std::string& text) {
    auto parsed = parse_matrix(text, "dir/m.toml");
    EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().text());
    if (!parsed) return;
    spec = std::move(*parsed);
    auto cells = expand(spec);
    EXPECT_TRUE(cells) << (cells ? "" : cells.error().text());
    if (cells) expansion = std::move(*cells);
  }
  std::string line(std::size_t cell) const {
    return cell_command_line(spec, expansion.cells[cell],
                             cell_settings(spec, expansion.cells[cell]));
  }
  std::vector<std::size_t> all() const {
    std::vector<std::size_t> indices(expansion.cells.size());
    for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = i;
    return indices;
  }
};

TEST(CellCommand, paths_start_from_the_matrixs_folder) {
  const Expanded m(R"(
[axes]
cpu-model = ["epyc,-avx", "./mine.toml,+vmx"]
[guest.g]
kernel = "../k.elf"
initrd = ["a.img", "/abs/b.img"]
module = ["mod with words"]
)");
  EXPECT_EQ(m.line(0),
            "vmm run --cpu-model epyc,-avx --timeout 60 --initrd dir/a.img --initrd /abs/b.img "
            "--module 'dir/mod with words' k.elf");
  EXPECT_THAT(m.line(1), HasSubstr("--cpu-model dir/mine.toml,+vmx "));
}

TEST(CellCommand, firmware_takes_its_store_and_disks_along_and_needs_no_kernel) {
  const Expanded m(R"(
[guest.g]
firmware = "/usr/CODE.fd"
vars = "copy,copy"
disk = ["raw:raw,ro"]
share = ["efi", "/abs/more,overlay"]
options = ["--smp", "2"]
[guest.h]
firmware = "CODE.fd"
kernel = "a.efi"
)");
  EXPECT_EQ(m.line(0),
            "vmm run --timeout 60 --firmware /usr/CODE.fd --vars dir/copy,copy --disk "
            "raw:dir/raw,ro --share dir/efi --share /abs/more,overlay --smp 2");
  EXPECT_EQ(m.line(1), "vmm run --timeout 60 --firmware dir/CODE.fd dir/a.efi");
  EXPECT_THAT(cell_images(m.spec, m.spec.guests[0].settings),
              ElementsAre("/usr/CODE.fd", "dir/copy", "dir/raw", "dir/efi", "/abs/more"));
}

TEST(CellCommand, a_lab_is_named_with_its_parameters) {
  const Expanded m(
      "[axes]\non = [\"host\", \"svm\"]\nkvm-param = [\"\", \"npt=0,vgif=0\"]\n"
      "[guest.g]\nkernel = \"k\"\n");
  EXPECT_EQ(m.line(0), "vmm run --timeout 60 dir/k");
  EXPECT_EQ(m.line(1), "vmm run --on svm --timeout 60 dir/k");
  EXPECT_EQ(m.line(2), "vmm run --on svm --kvm-param npt=0 --kvm-param vgif=0 --timeout 60 dir/k");
}

TEST(CellCommand, axes_of_ones_own_are_words_of_the_guests_command_line) {
  const Expanded m(
      "[args]\nloglevel = [3]\nmode = [\"a b\"]\n[guest.g]\nkernel = \"k\"\n"
      "append = \"quiet l={loglevel},{loglevel}\"\n");
  EXPECT_EQ(cell_arguments(m.spec, m.expansion.cells[0], m.spec.guests[0].settings),
            "quiet l=3,3 mode=a b");
  EXPECT_THAT(m.line(0), HasSubstr("--append 'quiet l=3,3 mode=a b'"));
}

TEST(CellCommand, a_value_that_names_its_own_axis_ends) {
  const Expanded m("[args]\nx = [\"{x}{x}\"]\n[guest.g]\nkernel = \"k\"\nappend = \"{x}\"\n");
  EXPECT_EQ(cell_arguments(m.spec, m.expansion.cells[0], m.spec.guests[0].settings), "{x}{x}");
}

TEST(CellCommand, the_runs_limit_has_room_for_the_boot) {
  const Expanded m(
      "[guest.g]\nkernel = \"k\"\nlandmark = \"up\"\nboot-timeout = 5\ntimeout = 2.5\n");
  EXPECT_THAT(m.line(0), HasSubstr("--timeout 7.5 "));
}

TEST(AttemptDirectory, names_the_cell_and_the_attempt) {
  const std::string first = attempt_directory(6, "hello smp=2", "hello", 0);
  EXPECT_THAT(first, testing::MatchesRegex("cells/0007-hello-[0-9a-f]+"));
  EXPECT_EQ(attempt_directory(6, "hello smp=2", "hello", 1), first + ".2");
  EXPECT_NE(attempt_directory(6, "hello smp=4", "hello", 0), first);
}

TEST(SlurmScript, begins_a_shard_or_goes_on_with_it) {
  SlurmSpec spec;
  spec.directory = "/shared/a b";
  spec.shards = 4;
  spec.jobs = 2;
  spec.words = {"m.toml", "--only", "guest=v*"};
  EXPECT_EQ(slurm_script(spec, "/bin/vmm"),
            "#!/bin/sh\n"
            "# A shard of a matrix, as a task of a Slurm array job.\n"
            "out='/shared/a b'/$SLURM_ARRAY_TASK_ID\n"
            "if [ -e \"$out/journal.jsonl\" ]; then\n"
            "  exec /bin/vmm matrix run m.toml -q -j 2 --out \"$out\" --resume\n"
            "fi\n"
            "exec /bin/vmm matrix run m.toml --only 'guest=v*' -q -j 2 --out \"$out\" "
            "--shard \"$SLURM_ARRAY_TASK_ID/4\"\n");
}

TEST(Plan, says_what_this_host_would_skip_and_how_long_it_takes) {
  const Expanded m(
      "[axes]\non = [\"host\", \"svm\"]\ncpu-model = [\"epyc\", \"haswell\"]\n"
      "[guest.g]\nkernel = \"k\"\n[[exclude]]\non = \"svm\"\ncpu-model = \"haswell\"\n"
      "reason = \"not there\"\n");
  const CellTimes times = {{"g on=host cpu-model=epyc", 4.0}};
  const MatrixPlan plan = make_plan(m.spec, m.expansion, m.all(), times, 2,
                                    [](const std::string& model, const std::string&) {
                                      return model == "epyc" ? "epyc: no avx" : "";
                                    });
  const std::string text = plan_text(plan);
  EXPECT_THAT(text, HasSubstr("on host: 2 cells, 1 would be skipped here:"));
  EXPECT_THAT(text, HasSubstr("epyc: no avx"));
  EXPECT_THAT(text, HasSubstr("on svm: 1 cell, what it lacks is asked when it is up"));
  EXPECT_THAT(text, HasSubstr("left out: 1 cell (not there, dir/m.toml:6:1)"));
  EXPECT_THAT(text, HasSubstr("missing: dir/k"));
  EXPECT_THAT(text, HasSubstr("takes about 6 s with -j 2 (by 1 cell that ran before)"));
  EXPECT_EQ(to_json(plan).at("estimated_seconds"), 6.0);
}

}  // namespace
}  // namespace vmm
