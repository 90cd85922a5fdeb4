// What --vars names: the bytes of a flash chip in a file, or in memory alone.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/core/flash_store.h"

namespace vmm {

struct VarsSpec {
  enum class Mode {
    Write,     // what the guest programs is in the file before its next instruction
    Copy,      // the file is read once; what the guest writes ends with the run
    ReadOnly,  // the guest's writes fail
  };
  std::string path;
  Mode mode = Mode::Write;

  bool operator==(const VarsSpec&) const = default;
};

// "FILE", "FILE,copy" or "FILE,ro". A Usage error for no file.
Result<VarsSpec> parse_vars(std::string_view text);
std::string vars_text(const VarsSpec& spec);  // as parse_vars() takes it

// Where changed bytes go for good, in order.
class FlashMedium {
 public:
  virtual ~FlashMedium() = default;
  virtual bool write(std::uint64_t offset, std::span<const std::uint8_t> data) = 0;
  // What was written before outlives a failure of the host's power.
  virtual bool sync() = 0;
};

// A file is never rewritten as a whole: changed bytes alone are written, each before write()
// returns, so the death of this process leaves what the guest had programmed. A failure of the
// host's power must not leave later bytes without earlier ones. The host writes pages of 4 KiB back
// in any order, each as it is at some moment; so before a write to another page than the last one,
// that one is synced. At any time at most one page is behind, and what is on the disk is what the
// guest had programmed at some earlier moment.
class FlashFile final : public FlashStore {
 public:
  static constexpr std::uint64_t kPageSize = 0x1000;
  static constexpr std::uint64_t kMaxSize = 16ULL << 20;

  // Errors of kind Image name the file and the reason. A file that is written to is locked against
  // all others (flock(2)); one that is only read, against writers while it is read.
  static Result<std::unique_ptr<FlashFile>> open(const VarsSpec& spec);
  // `medium` may be null: memory alone. `content` is not empty.
  static Result<std::unique_ptr<FlashFile>> create(std::span<const std::uint8_t> content,
                                                   VarsSpec::Mode mode,
                                                   std::unique_ptr<FlashMedium> medium);

  std::span<const std::uint8_t> bytes() const override { return memory_.bytes(); }
  // The same, for a slot of guest memory; page-aligned.
  std::span<std::uint8_t> pages() { return memory_.bytes(); }
  bool is_writable() const override { return mode_ != VarsSpec::Mode::ReadOnly; }
  bool write(std::uint64_t offset, std::span<const std::uint8_t> data) override;

  // The end of the run. False: the host could not keep what was written.
  bool sync();
  // How many writes the host refused, which the guest saw as errors.
  std::uint64_t failures() const { return failures_; }

 private:
  FlashFile(Mapping memory, VarsSpec::Mode mode, std::unique_ptr<FlashMedium> medium)
      : memory_(std::move(memory)), mode_(mode), medium_(std::move(medium)) {}
  bool keep(std::uint64_t offset, std::span<const std::uint8_t> data);

  Mapping memory_;
  VarsSpec::Mode mode_;
  std::unique_ptr<FlashMedium> medium_;
  std::optional<std::uint64_t> behind_;  // the page that was written and not synced
  std::uint64_t failures_ = 0;
};

}  // namespace vmm
