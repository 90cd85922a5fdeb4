// Cards compared as whole texts, so that a change of wording is a decision. With
// VMM_UPDATE_GOLDEN=1 in the environment the files are written instead; look at the difference
// before committing it.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

namespace vmm {

inline std::string read_fixture(const std::string& path) {
  std::ifstream file("vmm/machine/testdata/" + path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void expect_golden(const std::string& text, const std::string& name) {
  if (std::getenv("VMM_UPDATE_GOLDEN") != nullptr) {
    std::ofstream("vmm/machine/testdata/cards/" + name, std::ios::binary) << text;
    return;
  }
  EXPECT_EQ(text, read_fixture("cards/" + name)) << name;
}

}  // namespace vmm
