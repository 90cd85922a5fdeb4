// A cpio archive in the "newc" format, as the kernel unpacks it into its first root file system
// (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmm {

// Paths are relative to the root of the archive ("lib/modules/kvm.ko"); directories above an entry
// are made (mode 0755) when they were not added before. Everything belongs to root, with time 0, so
// that the same entries are the same bytes. A file has less than 4 GiB, a path less than 4 KiB.
class NewcArchive {
 public:
  NewcArchive();

  // `mode` holds permission bits only.
  void add_directory(std::string_view path, unsigned mode = 0755);
  void add_file(std::string_view path, std::span<const std::uint8_t> bytes, unsigned mode = 0644);
  void add_symlink(std::string_view path, std::string_view target);
  void add_character_device(std::string_view path, unsigned major, unsigned minor,
                            unsigned mode = 0600);

  // The archive with its trailer; nothing may be added afterwards.
  std::vector<std::uint8_t> finish() &&;

 private:
  struct Device {
    unsigned major = 0;
    unsigned minor = 0;
  };
  void add_parents(std::string_view path);
  void add(std::string_view path, unsigned mode, std::span<const std::uint8_t> bytes,
           Device device);
  void pad();

  std::vector<std::uint8_t> bytes_;
  std::set<std::string, std::less<>> directories_;
  unsigned next_inode_ = 1;
};

}  // namespace vmm
