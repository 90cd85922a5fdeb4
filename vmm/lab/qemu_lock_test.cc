#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "vmm/lab/qemu_lock_image.h"

namespace {

volatile bool cleared = false;

}  // namespace

// What QEMU exports to its modules; this test does too (ENABLE_EXPORTS).
extern "C" [[gnu::visibility("default"), gnu::noinline]] void cpu_clear_ignne() { cleared = true; }

namespace vmm {
namespace {

TEST(QemuLock, lets_nobody_clear_the_first_processors_ignne) {
  void (*volatile clear)() = cpu_clear_ignne;
  clear();
  ASSERT_TRUE(cleared);
  cleared = false;

  const int file = memfd_create("vmm-qemu-lock.so", MFD_CLOEXEC);
  ASSERT_GE(file, 0);
  const auto library = qemu_lock_library();
  ASSERT_EQ(write(file, library.data(), library.size()), static_cast<ssize_t>(library.size()));
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  ASSERT_NE(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL), nullptr) << dlerror();
  close(file);

  clear();
  EXPECT_FALSE(cleared);
}

}  // namespace
}  // namespace vmm
