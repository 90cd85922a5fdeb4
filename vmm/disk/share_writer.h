// What a guest made of a shared directory, brought back to the directory.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "vmm/base/fd.h"
#include "vmm/base/result.h"
#include "vmm/disk/fat_tree.h"
#include "vmm/disk/fat_volume.h"
#include "vmm/disk/overlay_disk.h"
#include "vmm/disk/shared_tree.h"

namespace vmm {

// Nothing outside of the directory is ever touched: every path is opened beneath it, and no link
// is followed on the way to something that is written. First everything that changed is written
// into a directory of its own beside the rest (kStaging); only then names change. A file that
// somebody changed on the host meanwhile stays as it is there.
class ShareWriter {
 public:
  static constexpr const char* kStaging = ".vmm-share-staging";

  // All outlive this. `disk` is what the guest wrote, over the tree as it was.
  ShareWriter(const Fd& top, const SharedTree& before, OverlayDisk& disk)
      : top_(top), before_(before), disk_(disk) {}

  // Sentences for the user: what was left out and why, then how much was done.
  std::vector<std::string> run();

 private:
  enum class Source { Kept, Renamed, Written };
  struct NewFile {
    const FatEntry* entry = nullptr;
    Source source = Source::Written;
    std::size_t original = 0;  // Kept and Renamed
    std::string staged = {};   // its name in the staging directory
  };

  void collect(const FatEntry& directory, const std::string& path);
  void classify();
  bool is_as_before(const FatEntry& entry, std::size_t original) const;
  Result<void> check_headers();
  Result<void> stage();
  Result<void> stage_file(const std::string& path, NewFile& file);
  Result<void> copy_content(const FatEntry& entry, const Fd& to);
  bool is_untouched_on_host(const SharedFile& file) const;
  void take_renamed();
  void remove_gone();
  void make_directories();
  void put_in_place();
  void note(const std::string& path, std::string_view why);
  void note_errno(const std::string& path, std::string_view what, int number);
  Fd parent_of(const std::string& path) const;

  const Fd& top_;
  const SharedTree& before_;
  OverlayDisk& disk_;
  FatTree tree_;
  std::map<std::string, NewFile> files_;
  std::vector<std::string> directories_;          // each before those in it
  std::map<std::string, std::size_t> originals_;  // by path
  Fd staging_;
  unsigned staged_ = 0;
  unsigned written_ = 0, renamed_ = 0, removed_ = 0, made_ = 0;
  std::vector<std::string> notes_;
  std::size_t notes_left_out_ = 0;
};

}  // namespace vmm
