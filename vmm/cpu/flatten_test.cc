// A model with overrides as a file of its own is the same CPU.
#include "vmm/cpu/flatten.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/sha256.h"
#include "vmm/cpu/model_text.h"
#include "vmm/cpu/resolve.h"
#include "vmm/cpu/words.h"

namespace vmm {
namespace {

using testing::HasSubstr;

Result<CpuModel> flat(const std::string& text) {
  return flatten(VMM_TRY(parse_cpu_selection(text)), VMM_TRY(resolve_whole(text, HostGrant{})),
                 "flat");
}

std::string digest_of(const std::string& text) {
  return resolve_cpu(text, CpuPolicy::Force, {}, HostGrant{})->model_digest;
}

// What resolve_cpu() makes the digest of, for a model that is in no file.
std::string digest_of(const CpuModel& model, std::string_view nesting) {
  CpuWords words = model_words(model);
  if (!nesting.empty()) words.set(feature_id(nesting), true);
  if (nesting == "vmx") {
    for (const FeatureId id : model.vmx) words.set(id, true);
    for (const FeatureId id : model.vmx_fixed) words.fix(id);
  }
  if (nesting == "svm")
    for (const FeatureId id : model.svm) words.set(id, true);
  derive(words, {});
  return sha256_hex(canonical_text(words, model.caches));
}

// Written and read again, bare and nested.
void expect_same_cpu(const std::string& text) {
  const auto model = flat(text);
  ASSERT_TRUE(model) << text << ": " << model.error().text();
  const auto file = parse_cpu_model(cpu_model_text(*model, "test"), "flat.toml");
  ASSERT_TRUE(file) << text << ": " << file.error().text();
  const CpuModel& again = file->versions.front();
  const std::string_view nesting = model->vendor == "AuthenticAMD" ? "svm" : "vmx";
  const bool nested = text.find("+vmx") != std::string::npos;
  if (!nested) {
    EXPECT_EQ(digest_of(again, ""), digest_of(text)) << text;
  }
  EXPECT_EQ(digest_of(again, nesting),
            digest_of(nested ? text : text + ",+" + std::string(nesting)))
      << text;
}

TEST(Flatten, every_version_keeps_its_digests) {
  for (const std::string& name : builtin_cpu_models()) {
    const auto file = builtin_cpu_model(name);
    ASSERT_TRUE(file);
    for (const CpuModel& version : file->versions) expect_same_cpu(version.full_name());
  }
}

TEST(Flatten, overrides_become_part_of_the_model) {
  for (const char* const text :
       {"haswell,+pdpe1gb,-avx2", "skylake-server,phys-bits=39", "haswell,+la57", "kvm64,+kvmclock",
        "skylake-client@3,+vmx,vmx.+xsaves,+xsaves", "haswell,+vmx,vmx.-ept,vmx.hlt-exit=fixed",
        "icelake-server,+arch-capabilities,+rdctl-no", "epyc,-topoext"})
    expect_same_cpu(text);
}

TEST(Flatten, the_rule_host_is_no_model) {
  const auto model = flat("host");
  ASSERT_FALSE(model);
  EXPECT_THAT(model.error().hint_text(), HasSubstr("vmm cpu baseline"));
}

}  // namespace
}  // namespace vmm
