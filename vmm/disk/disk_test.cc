#include "vmm/disk/disk.h"

#include <gmock/gmock.h>

namespace vmm {
namespace {

using testing::HasSubstr;

TEST(DiskSpecs, name_the_format_and_the_file) {
  EXPECT_EQ(*parse_disk("raw:a.img"), (DiskSpec{.path = "a.img"}));
  EXPECT_EQ(*parse_disk("RAW:/x/a b.img,ro"), (DiskSpec{.path = "/x/a b.img", .read_only = true}));
  EXPECT_EQ(*parse_disk("raw:a:b,c"), (DiskSpec{.path = "a:b,c"}));
  for (const char* text : {"raw:a.img", "raw:a.img,ro"})
    EXPECT_EQ(disk_text(*parse_disk(text)), text);
}

TEST(DiskSpecs, are_refused_with_what_to_write) {
  const auto refusal = [](const char* text) {
    const auto spec = parse_disk(text);
    EXPECT_FALSE(spec) << text;
    EXPECT_EQ(exit_code(spec.error().kind()), 64);
    return spec.error().text() + " | " + spec.error().hint_text();
  };
  EXPECT_THAT(refusal("a.img"), HasSubstr("does not say its format | write raw:a.img"));
  EXPECT_THAT(refusal("rwa:a.img"), HasSubstr("'rwa' is unknown | did you mean raw?"));
  EXPECT_THAT(refusal("qcow2:a.img"), HasSubstr("'qcow2' is unknown | raw is the only one"));
  EXPECT_THAT(refusal("raw:"), HasSubstr("needs a file"));
  EXPECT_THAT(refusal("raw:,ro"), HasSubstr("needs a file"));
  EXPECT_THAT(refusal(""), HasSubstr("does not say its format"));
}

TEST(DiskSpecs, are_at_most_sixteen) {
  const std::vector<std::string> texts(16, "raw:a,ro");
  EXPECT_EQ(parse_disks(texts, {})->size(), 16u);
  const auto more = parse_disks(texts, {"dir"});
  ASSERT_FALSE(more);
  EXPECT_THAT(more.error().text(), HasSubstr("17 disks are asked for, the machine takes 16"));
}

TEST(DiskSpecs, of_directories_come_last) {
  const auto specs = *parse_disks({"raw:a"}, {"dir,rw", ".", "a,b,overlay"});
  ASSERT_EQ(specs.size(), 4u);
  EXPECT_EQ(specs[1], (DiskSpec{.kind = DiskSpec::Kind::Share, .path = "dir", .write_back = true}));
  EXPECT_EQ(specs[3], (DiskSpec{.kind = DiskSpec::Kind::Share, .path = "a,b"}));
  EXPECT_TRUE(specs[2].read_only);
  EXPECT_EQ(disk_text(specs[1]), "share:dir,rw");
  EXPECT_EQ(disk_text(specs[3]), "share:a,b,overlay");
  EXPECT_EQ(disk_text(specs[2]), "share:.");
  EXPECT_EQ(disk_option(specs[0]), "--disk");
  EXPECT_EQ(disk_option(specs[1]), "--share");
  for (const char* text : {"", ",rw", ",overlay"}) EXPECT_FALSE(parse_disks({}, {text})) << text;
}

}  // namespace
}  // namespace vmm
