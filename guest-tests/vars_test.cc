// The firmware's variables as users meet them: a flash chip in a file.
#include <gmock/gmock.h>

#include "guest-tests/run_vmm.h"
#include "guest-tests/variable_store.h"

namespace vmm {
namespace {

using testing::HasSubstr;

// As the firmware leaves it: two bytes programmed, a block erased again.
std::string used_store() {
  std::string bytes = empty_variable_store();
  bytes[0x1100] = 0x12;
  bytes[0x3fff] = 0x5a;
  return bytes;
}

class Vars : public KvmTest {
 protected:
  RunResult run(const std::string& how = "", std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"run",    "--firmware", guest_path("flash-firmware.bin"),
                                      "--vars", path + how,   "--cpu-policy",
                                      "mask"};
    words.insert(words.end(), more.begin(), more.end());
    return run_vmm({.arguments = words});
  }

  const TempFolder folder;
  const std::string path = folder.write("vars.fd", empty_variable_store());
};

TEST_F(Vars, are_in_the_file_and_there_again_in_the_next_run) {
  const RunResult first = run();
  EXPECT_EQ(first.code, 0) << first.text();
  EXPECT_EQ(read_text_file(path), used_store());
  const RunResult second = run();
  EXPECT_EQ(second.code, 0) << second.text();
  EXPECT_EQ(read_text_file(path), used_store());
}

TEST_F(Vars, in_a_copy_leave_the_file_alone) {
  const RunResult r = run(",copy");
  EXPECT_EQ(r.code, 0) << r.text();
  EXPECT_EQ(read_text_file(path), empty_variable_store());
}

TEST_F(Vars, that_are_read_only_do_not_change) {
  const RunResult r = run(",ro");
  EXPECT_EQ(r.code, 2) << "the byte is not there" << r.text();
  EXPECT_EQ(read_text_file(path), empty_variable_store());
}

TEST_F(Vars, that_do_not_suit_are_refused_with_the_reason) {
  folder.write("vars.fd", empty_variable_store(0x8000));
  const RunResult other = run();
  EXPECT_EQ(other.code, 65) << other.text();
  EXPECT_THAT(other.err, HasSubstr("the store of 8000h bytes and the firmware's code of 4000h "
                                   "bytes are not built for each other"));
  folder.write("vars.fd", std::string(kFlashSize, 'x'));
  const RunResult text = run();
  EXPECT_EQ(text.code, 65) << text.text();
  EXPECT_THAT(text.err, HasSubstr("this is no variable store"));
  const RunResult alone = run_guest("minimal.elf", {"--vars", path});
  EXPECT_EQ(alone.code, 64) << alone.text();
  EXPECT_THAT(alone.err, HasSubstr("--vars needs --firmware"));
}

}  // namespace
}  // namespace vmm
