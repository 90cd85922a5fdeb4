// QEMU's monitor, for the few words that a lab has for it.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"

namespace vmm {

class Qmp {
 public:
  // `socket` is our end of a monitor's. Errors below are of kind Lab: QEMU says no, answers
  // nothing for `patience`, or is gone.
  Qmp(Fd socket, std::chrono::milliseconds patience)
      : socket_(std::move(socket)), patience_(patience) {}

  // The value of "return". `fd`, if there is one, goes along.
  Result<nlohmann::json> execute(const std::string& command,
                                 nlohmann::json arguments = nlohmann::json::object(), int fd = -1);

 private:
  Result<void> send(const std::string& line, int fd);
  Result<std::string> receive_line();

  Fd socket_;
  std::chrono::milliseconds patience_;
  std::string received_;
  bool greeted_ = false;
};

}  // namespace vmm
