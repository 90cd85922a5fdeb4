// Labs that were saved when they had just booted, $XDG_CACHE_HOME/vmm/states: one file for each
// kind of lab, the least used removed when there are too many.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"

namespace vmm {

// What a state has to fit.
struct StateKey {
  std::string digest;         // of all that makes the machine and what it boots
  std::uint32_t tsc_khz = 0;  // of the processor under it: the lab's Linux goes by that rate
};

// A state on its way into the cache; gone with this object unless it is kept. One at a time: its
// file is locked.
class StateDraft {
 public:
  ~StateDraft();
  StateDraft(StateDraft&& other) noexcept;
  StateDraft& operator=(StateDraft&&) = delete;

  const Fd& file() const { return file_; }
  // Gives it its name.
  Result<void> keep();

 private:
  friend class SavedStates;
  StateDraft(std::string draft, std::string path, Fd file)
      : draft_(std::move(draft)), path_(std::move(path)), file_(std::move(file)) {}

  std::string draft_;  // empty: kept
  std::string path_;
  Fd file_;
};

class SavedStates {
 public:
  static constexpr std::size_t kMost = 4;  // each has some 120 MB

  explicit SavedStates(std::string directory) : directory_(std::move(directory)) {}

  // The state's file, from its beginning; it counts as used now.
  std::optional<Fd> find(const StateKey& key) const;
  // Removes those that find() would give.
  void forget(const StateKey& key) const;
  // Nothing when another process is about to save one.
  Result<std::optional<StateDraft>> begin(const StateKey& key) const;

 private:
  std::vector<std::string> paths_of(const StateKey& key) const;
  void remove_least_used() const;

  std::string directory_;
};

}  // namespace vmm
