#include "vmm/lab/lab_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "vmm/base/fd.h"
#include "vmm/base/units.h"
#include "vmm/lab/agent_config.h"
#include "vmm/lab/module_builder.h"

namespace vmm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

LabSpec spec_with(std::vector<std::string> params, LabBackend backend = LabBackend::Svm) {
  LabSpec spec;
  spec.backend = backend;
  spec.kvm_params = std::move(params);
  return spec;
}

TEST(ModuleParameters, go_to_the_vendor_module_or_to_kvm) {
  const auto parameters =
      module_parameters(spec_with({"npt=0", "kvm.ignore_msrs=1", "kvm-amd.vgif=0", "kvm.x=y"}));
  ASSERT_TRUE(parameters) << parameters.error().text();
  EXPECT_EQ(parameters->vendor, "nested=1 npt=0 vgif=0");
  EXPECT_EQ(parameters->kvm, "ignore_msrs=1 x=y");
  EXPECT_EQ(module_parameters(spec_with({"ept=0"}, LabBackend::Vmx))->vendor,
            "nested=1 ple_window=262144 ple_window_grow=0 preemption_timer=0 ept=0");
}

TEST(ModuleParameters, of_another_shape_are_refused) {
  for (const char* text : {"npt", "=0", "npt=0 panic=1", "npt=\"0", "kvm.=1", "n\npt=0", "a.b.c=1"})
    EXPECT_FALSE(module_parameters(spec_with({text}))) << text;
  EXPECT_THAT(module_parameters(spec_with({"kvm_intel.ept=0"})).error().text(),
              HasSubstr("this lab loads kvm and kvm_amd, not kvm_intel"));
}

TEST(BzimageRelease, is_read_from_the_header) {
  EXPECT_EQ(bzimage_release(build_bzimage("6.1.0-56-cloud-amd64")).value(), "6.1.0-56-cloud-amd64");
}

TEST(BzimageRelease, damage_is_said) {
  std::vector<std::uint8_t> bytes = build_bzimage("6.1");
  for (std::size_t size = 0; size < 0x607; ++size)
    (void)bzimage_release(std::span(bytes).first(size));
  EXPECT_FALSE(bzimage_release(std::span(bytes).first(0x600)));
  bytes[0x202] = 'h';
  EXPECT_THAT(bzimage_release(bytes).error().text(), HasSubstr("no bzImage"));
  bytes = build_bzimage("6.1");
  store<std::uint16_t>(bytes, 0x20e, 0xffff);
  EXPECT_THAT(bzimage_release(bytes).error().text(), HasSubstr("points nowhere"));
  EXPECT_FALSE(bzimage_release(build_bzimage("../etc")));
  EXPECT_FALSE(bzimage_release(build_bzimage("")));
  EXPECT_FALSE(bzimage_release(build_bzimage(std::string(100, 'x'))));
}

// A user's own kernel: an image and a modules directory.
class OwnKernel : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "kernelXXXXXX";
    ASSERT_NE(::mkdtemp(directory_.data()), nullptr);
    put("bzImage", build_bzimage("6.1-test"));
    put("modules/kernel/kvm.ko", build_module("irqbypass", "6.1-test"));
    put("modules/kernel/kvm-amd.ko", build_module("kvm", "6.1-test"));
    put("modules/kernel/irqbypass.ko", build_module("", "6.1-test"));
    put("modules/kernel/virtio_pci.ko", build_module("virtio", "6.1-test"));
    put("modules/kernel/virtio.ko", build_module("", "6.1-test"));
    put("modules/kernel/virtio_console.ko", build_module("virtio", "6.1-test"));
    spec_.kernel = directory_ + "/bzImage";
    spec_.modules = directory_ + "/modules";
  }
  void TearDown() override { fs::remove_all(directory_); }
  void put(const std::string& name, const std::vector<std::uint8_t>& bytes) {
    fs::create_directories(fs::path(directory_ + "/" + name).parent_path());
    ASSERT_TRUE(write_file(directory_ + "/" + name, bytes));
  }
  static std::string contents(const Fd& fd) {
    const auto bytes =
        read_file("/proc/self/fd/" + std::to_string(fd.get()), 1_MiB, ErrorKind::Usage);
    EXPECT_TRUE(bytes) << bytes.error().text();
    return {bytes->begin(), bytes->end()};
  }
  std::string error() const {
    const auto kernel = find_lab_kernel(spec_);
    return kernel ? std::string("accepted") : kernel.error().text();
  }
  std::string directory_;
  LabSpec spec_;
};

TEST_F(OwnKernel, becomes_an_image_that_tells_the_agent_what_to_load) {
  spec_.kvm_params = {"npt=0", "kvm.ignore_msrs=1"};
  const auto image = build_lab_image(spec_, std::vector<std::uint8_t>{'a', 'g', 'e', 'n', 't'});
  ASSERT_TRUE(image) << image.error().text();
  EXPECT_EQ(image->release, "6.1-test");
  EXPECT_EQ(image->append, "");
  const auto kernel = build_bzimage("6.1-test");
  EXPECT_EQ(contents(image->kernel), std::string(kernel.begin(), kernel.end()));
  const std::string archive = contents(image->initramfs);
  EXPECT_THAT(archive, HasSubstr("agent"));
  const std::size_t start = archive.find('{');
  const auto told =
      parse_agent_config(archive.substr(start, archive.find("\n}\n", start) + 2 - start));
  ASSERT_TRUE(told) << told.error().text();
  EXPECT_EQ(told->channel_kind, "tty");
  EXPECT_EQ(told->channel_device, "/dev/vport0p1");
  EXPECT_EQ(told->shutdown_port, 0);
  std::vector<std::string> loaded;
  for (const AgentModule& module : told->modules)
    loaded.push_back(module.path + " " + module.parameters);
  EXPECT_THAT(loaded, ElementsAre("/lib/modules/virtio.ko ", "/lib/modules/virtio_pci.ko ",
                                  "/lib/modules/virtio_console.ko ", "/lib/modules/irqbypass.ko ",
                                  "/lib/modules/kvm.ko ignore_msrs=1",
                                  "/lib/modules/kvm_amd.ko nested=1 npt=0"));
}

TEST_F(OwnKernel, a_parameter_that_the_module_has_not_is_refused) {
  using namespace std::string_literals;
  put("modules/kernel/kvm-amd.ko",
      build_module("license=GPL\0parmtype=npt:bool\0parmtype=nested:int\0depends=kvm\0"
                   "vermagic=6.1-test SMP preempt\0"s));
  spec_.kvm_params = {"npt=0", "kvm.anything=1"};
  EXPECT_TRUE(build_lab_image(spec_, {}));
  spec_.kvm_params = {"ntp=0"};
  const auto image = build_lab_image(spec_, {});
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().kind(), ErrorKind::Usage);
  EXPECT_EQ(image.error().text(), "--kvm-param: kvm_amd has no parameter 'ntp'");
  EXPECT_EQ(image.error().hint_text(), "did you mean npt?");
}

TEST_F(OwnKernel, parameters_of_built_in_modules_go_to_the_command_line) {
  for (const char* name : {"kvm", "kvm-amd", "irqbypass"})
    fs::remove(directory_ + "/modules/kernel/" + name + ".ko");
  std::ofstream(directory_ + "/modules/modules.builtin") << "kernel/arch/x86/kvm/kvm.ko\n"
                                                            "kernel/arch/x86/kvm/kvm-amd.ko\n";
  spec_.kvm_params = {"npt=0", "kvm.ignore_msrs=1"};
  const auto image = build_lab_image(spec_, {});
  ASSERT_TRUE(image) << image.error().text();
  EXPECT_EQ(image->append, "kvm.ignore_msrs=1 kvm_amd.nested=1 kvm_amd.npt=0");
}

TEST_F(OwnKernel, needs_modules_of_its_own_release) {
  put("modules/kernel/kvm.ko", build_module("irqbypass", "6.2-other"));
  EXPECT_EQ(error(), "the modules in " + spec_.modules +
                         " are for the kernel 6.2-other, the image is 6.1-test");
  fs::remove(directory_ + "/modules/kernel/kvm.ko");
  EXPECT_THAT(error(), HasSubstr("holds no kvm.ko"));
}

TEST_F(OwnKernel, must_be_there) {
  spec_.kernel = directory_ + "/absent";
  EXPECT_THAT(error(), HasSubstr("absent: ENOENT"));
  spec_.kernel = "";
  EXPECT_THAT(error(), HasSubstr("--lab-modules without --lab-kernel"));
  spec_.kernel = directory_ + "/bzImage";
  spec_.modules = "";
  EXPECT_THAT(error(), HasSubstr("/lib/modules/6.1-test"));
}

}  // namespace
}  // namespace vmm
