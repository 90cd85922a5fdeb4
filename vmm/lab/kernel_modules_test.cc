#include "vmm/lab/kernel_modules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "loader/compressed_fake.h"
#include "vmm/base/fd.h"
#include "vmm/base/units.h"
#include "vmm/lab/module_builder.h"

namespace vmm {
namespace {

using namespace std::string_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
namespace fs = std::filesystem;
using ByteVector = std::vector<std::uint8_t>;
using testing_packed::xz;
using testing_packed::zst;

TEST(ModuleInfo, lists_what_a_module_needs) {
  const auto info =
      read_module_info(build_module("license=GPL\0depends=kvm,irq-bypass\0vermagic=6.1.0 SMP\0"s));
  ASSERT_TRUE(info) << info.error().text();
  EXPECT_THAT(info->depends, ElementsAre("kvm", "irq_bypass"));
  EXPECT_EQ(info->vermagic, "6.1.0 SMP");
  EXPECT_THAT(read_module_info(build_module("depends=\0"s))->depends, IsEmpty());
  EXPECT_THAT(read_module_info(build_module(""s))->depends, IsEmpty());
}

TEST(ModuleInfo, damage_is_said) {
  const auto reason = [](const ByteVector& bytes) {
    const auto info = read_module_info(bytes);
    return info ? std::string("accepted") : info.error().text();
  };
  EXPECT_EQ(reason({}), "no ELF file");
  EXPECT_EQ(reason(build_module("depends=kvm"s)), "the last entry of .modinfo has no end");
  EXPECT_THAT(reason(build_module("depends="s + std::string(300, 'x') + "\0"s)),
              HasSubstr("longer, modules than"));
  ByteVector bytes = build_module("depends=\0"s);
  store<std::uint64_t>(bytes, 0x28, ~0ull);  // e_shoff
  EXPECT_EQ(reason(bytes), "the section headers run over the end of the file");
  bytes = build_module("depends=\0"s);
  store<std::uint16_t>(bytes, 0x3e, 3);  // e_shstrndx
  EXPECT_EQ(reason(bytes), "the section names lie in a section that does not exist");
  bytes = build_module("depends=\0"s);
  const auto sections = static_cast<std::size_t>(load<std::uint64_t>(bytes, 0x28));
  store<std::uint64_t>(bytes, sections + 2 * sizeof(Elf64_Shdr) + 0x20, ~0ull);  // sh_size
  EXPECT_EQ(reason(bytes), "the .modinfo section runs over the end of the file");
}

TEST(ModuleInfo, any_cut_and_any_changed_byte_is_survived) {
  const ByteVector whole = build_module("depends=kvm\0vermagic=1\0"s);
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(read_module_info(std::span(whole).first(size))) << size;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const unsigned value : {0x00u, 0x7fu, 0xffu}) {
      ByteVector bytes = whole;
      bytes[at] = static_cast<std::uint8_t>(value);
      (void)read_module_info(bytes);
    }
  }
}

TEST(ModuleSignature, is_cut_off_where_there_is_one) {
  const ByteVector plain = build_module("depends=kvm\0"s);
  const auto signed_with = [&](std::size_t size, unsigned said) {
    ByteVector bytes = plain;
    bytes.insert(bytes.end(), size, 0x30);
    bytes.insert(bytes.end(), 8, 0);
    for (const unsigned shift : {24u, 16u, 8u, 0u})
      bytes.push_back(static_cast<std::uint8_t>(said >> shift));
    const std::string_view mark = "~Module signature appended~\n";
    bytes.insert(bytes.end(), mark.begin(), mark.end());
    return bytes;
  };
  const auto size_left = [](const ByteVector& bytes) { return without_signature(bytes).size(); };
  EXPECT_EQ(size_left(plain), plain.size());
  EXPECT_EQ(size_left(signed_with(700, 700)), plain.size());
  const ByteVector damaged = signed_with(700, 0xffff'ffff);
  EXPECT_EQ(size_left(damaged), damaged.size());
  EXPECT_EQ(size_left({}), 0u);
}

class ModuleTreeTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "modulesXXXXXX";
    ASSERT_NE(::mkdtemp(directory_.data()), nullptr);
  }
  void TearDown() override { fs::remove_all(directory_); }
  void put(const std::string& name, const ByteVector& bytes) {
    fs::create_directories(fs::path(directory_ + "/" + name).parent_path());
    ASSERT_TRUE(write_file(directory_ + "/" + name, bytes));
  }
  void put_module(const std::string& name, const std::string& depends) {
    put(name, build_module(depends, "1"));
  }
  std::vector<std::string> order(const std::vector<std::string>& wanted) {
    const auto tree = ModuleTree::scan(directory_);
    EXPECT_TRUE(tree) << tree.error().text();
    const auto modules = tree->load_order(wanted);
    if (!modules) return {"error: " + modules.error().text()};
    std::vector<std::string> names;
    for (const KernelModule& module : *modules) names.push_back(module.name);
    return names;
  }
  std::string directory_;
};

TEST_F(ModuleTreeTest, dependencies_come_first_and_once) {
  put_module("kernel/arch/kvm-amd.ko", "kvm");
  put("kernel/arch/kvm.ko.xz", xz(build_module("irqbypass", "1")));
  put("kernel/virt/irqbypass.ko.zst", zst(build_module("", "1")));
  EXPECT_THAT(order({"kvm_amd", "irqbypass", "kvm"}), ElementsAre("irqbypass", "kvm", "kvm_amd"));
  EXPECT_THAT(order({"kvm-amd"}), ElementsAre("irqbypass", "kvm", "kvm_amd"));
}

TEST_F(ModuleTreeTest, built_in_modules_need_no_file) {
  put_module("kvm.ko", "irqbypass");
  std::ofstream(directory_ + "/modules.builtin") << "kernel/virt/lib/irq-bypass.ko\n"
                                                    "kernel/virt/lib/irqbypass.ko\n";
  EXPECT_THAT(order({"kvm", "irq_bypass"}), ElementsAre("kvm"));
}

TEST_F(ModuleTreeTest, a_missing_module_is_named_with_who_needs_it) {
  put_module("kvm.ko", "irqbypass");
  EXPECT_THAT(order({"kvm"}),
              ElementsAre("error: " + directory_ +
                          " holds no module irqbypass, which kvm needs, and modules.builtin does "
                          "not name it either"));
}

TEST_F(ModuleTreeTest, a_circle_is_an_error) {
  put_module("a.ko", "b");
  put_module("b.ko", "c");
  put_module("c.ko", "a");
  EXPECT_THAT(order({"a"}), ElementsAre(HasSubstr("the modules c and a")));
  put_module("d.ko", "d");
  EXPECT_THAT(order({"d"}), ElementsAre(HasSubstr("depend on each other")));
}

TEST_F(ModuleTreeTest, a_very_long_chain_is_an_error) {
  for (int i = 0; i < 200; ++i)
    put_module("m" + std::to_string(i) + ".ko", "m" + std::to_string(i + 1));
  EXPECT_THAT(order({"m0"}), ElementsAre(HasSubstr("more than 64 deep")));
}

TEST_F(ModuleTreeTest, a_damaged_file_is_named) {
  put("kvm.ko.xz", ByteVector(100, 1));
  EXPECT_THAT(order({"kvm"}), ElementsAre("error: " + directory_ +
                                          "/kvm.ko.xz: the xz data is damaged: no .xz file"));
}

TEST_F(ModuleTreeTest, a_missing_directory_is_an_error) {
  const auto tree = ModuleTree::scan(directory_ + "/absent");
  ASSERT_FALSE(tree);
  EXPECT_THAT(tree.error().text(), HasSubstr("ENOENT"));
}

}  // namespace
}  // namespace vmm
