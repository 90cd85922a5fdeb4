// The hosts of vmm/cpu/testdata/hosts, for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "vmm/cpu/host_dump.h"

namespace vmm {

// Their names, sorted: "icelake-linux-6.1".
inline std::vector<std::string> recorded_hosts() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("vmm/cpu/testdata/hosts"))
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

inline std::string recorded_host_path(const std::string& name) {
  return "vmm/cpu/testdata/hosts/" + name + ".json";
}

inline HostGrant recorded_host(const std::string& name) {
  const auto host = read_host_dump(recorded_host_path(name));
  EXPECT_TRUE(host) << host.error().text();
  return host ? *host : HostGrant{};
}

}  // namespace vmm
