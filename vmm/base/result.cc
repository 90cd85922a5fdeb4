#include "vmm/base/result.h"

#include <fmt/format.h>

#include <cstring>

namespace vmm {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::Usage:
      return 64;
    case ErrorKind::Image:
      return 65;
    case ErrorKind::Internal:
      return 70;
    case ErrorKind::Lab:
      return 75;
    case ErrorKind::NoLab:
      return 76;
    case ErrorKind::Host:
      return 77;
  }
  return 70;
}

std::string errno_name(int errno_value) {
  const char* name = strerrorname_np(errno_value);
  return name != nullptr ? std::string(name) : fmt::format("errno {}", errno_value);
}

Error Error::system(ErrorKind kind, std::string_view what, int errno_value,
                    std::string_view detail) {
  if (detail.empty()) {
    const char* words = strerrordesc_np(errno_value);
    detail = words != nullptr ? words : "unknown error";
  }
  Error error(kind, fmt::format("{}: {} ({})", what, errno_name(errno_value), detail));
  error.errno_value_ = errno_value;
  return error;
}

Error Error::at(std::string place) && {
  place_ = std::move(place);
  return std::move(*this);
}

Error Error::context(std::string_view what) && {
  context_.emplace_back(what);
  return std::move(*this);
}

Error Error::hint(std::string text) && {
  hint_ = std::move(text);
  return std::move(*this);
}

std::string Error::text() const {
  std::string text;
  if (!place_.empty()) text += place_ + ": ";
  for (auto it = context_.rbegin(); it != context_.rend(); ++it) text += *it + ": ";
  return text + message_;
}

}  // namespace vmm
