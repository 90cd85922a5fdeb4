// What is said over a keeper's socket: one message of at most kMaxKeeperMessage bytes each way.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/result.h"
#include "vmm/lab/session.h"

namespace vmm {

constexpr std::size_t kMaxKeeperMessage = 128 << 10;

struct KeeperRequest {
  enum class Kind { Status, Execute, Stop };
  Kind kind = Kind::Status;
  LabCommand command;      // Execute only
  bool has_input = false;  // Execute only: the first of the descriptors is standard input
};

struct KeeperReply {
  std::optional<Error> error;
  std::string description;  // of the lab
  std::string state;        // as RunningLab::state
  long pid = 0;
  LabExit exit;  // Execute only
};

std::string to_json(const KeeperRequest& request);
std::string to_json(const KeeperReply& reply);
// Errors of kind Lab: it is not such a message.
Result<KeeperRequest> parse_keeper_request(std::string_view text);
Result<KeeperReply> parse_keeper_reply(std::string_view text);

}  // namespace vmm
