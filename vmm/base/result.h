// Failures of set-up: a bad file, a missing capability, a refused ioctl. What a guest does is never
// an Error: it is an Access or a RunOutcome.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

namespace vmm {

// Who has to act. Each kind is one exit code of the command line (DESIGN section 2).
enum class ErrorKind {
  Usage,     // 64: the command line or a configuration file
  Image,     // 65: a kernel, module or firmware image
  Internal,  // 70: our own fault, or a system call that should not fail
  Lab,       // 75: the lab failed: its emulator died, a frame was bad, the watchdog struck
  NoLab,     // 76: the lab's backend is not installed or not usable here
  Host,      // 77: this host cannot provide what was asked
};

// Exit code of `kind` (64, 65, 70, 75, 76 or 77).
int exit_code(ErrorKind kind);

// One failure: a sentence, where in an input it happened, what was going on around it, what to try.
class Error {
 public:
  Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) {}

  static Error usage(std::string message) { return {ErrorKind::Usage, std::move(message)}; }
  static Error image(std::string message) { return {ErrorKind::Image, std::move(message)}; }
  static Error internal(std::string message) { return {ErrorKind::Internal, std::move(message)}; }
  static Error lab(std::string message) { return {ErrorKind::Lab, std::move(message)}; }
  static Error no_lab(std::string message) { return {ErrorKind::NoLab, std::move(message)}; }
  static Error host(std::string message) { return {ErrorKind::Host, std::move(message)}; }
  // `what` names the call and its object; the text becomes "WHAT: ENOENT (No such file ...)", or
  // "WHAT: E2BIG (nent=81)" where there is a detail that says more than the errno's own words.
  static Error system(ErrorKind kind, std::string_view what, int errno_value,
                      std::string_view detail = {});

  // Place in an input file, as FILE:LINE:COLUMN or FILE; printed before the message.
  Error at(std::string place) &&;
  // Adds what was being done, outermost last; printed as "CONTEXT: message".
  Error context(std::string_view what) &&;
  // What the user can try; printed on a line of its own.
  Error hint(std::string text) &&;

  ErrorKind kind() const { return kind_; }
  int errno_value() const { return errno_value_; }
  const std::string& place() const { return place_; }
  const std::string& hint_text() const { return hint_; }
  // The whole sentence in one line: "PLACE: CONTEXT: message".
  std::string text() const;

 private:
  ErrorKind kind_;
  int errno_value_ = 0;
  std::string message_;
  std::string place_;
  std::string hint_;
  std::vector<std::string> context_;
};

template <typename T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

// "ENOENT" for ENOENT; "errno 4711" for a number without a name.
std::string errno_name(int errno_value);

}  // namespace vmm

// VMM_TRY(expr): the value of a Result, or return its error from the calling function.
#define VMM_TRY(expr)                                        \
  __extension__({                                            \
    auto vmm_try_result = (expr);                            \
    if (!vmm_try_result.has_value()) [[unlikely]]            \
      return ::vmm::fail(std::move(vmm_try_result).error()); \
    ::vmm::detail::take(vmm_try_result);                     \
  })

// VMM_TRY_CONTEXT(expr, text): the same, and the error says what was being done.
#define VMM_TRY_CONTEXT(expr, text)                                                   \
  __extension__({                                                                     \
    auto vmm_try_result = (expr);                                                     \
    if (!vmm_try_result.has_value()) [[unlikely]]                                     \
      return ::vmm::fail(std::move(std::move(vmm_try_result).error()).context(text)); \
    ::vmm::detail::take(vmm_try_result);                                              \
  })

namespace vmm::detail {
template <typename T>
T take(tl::expected<T, Error>& result) {
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}
}  // namespace vmm::detail
