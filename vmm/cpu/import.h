// CPUs that other programs have written down, as model files: QEMU's -cpu, libvirt's <cpu>,
// Firecracker's templates, dumps of cpuid. All of it is hostile; what a model cannot say is named.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cpu/cpu_model.h"

namespace vmm {

enum class ImportFormat { Qemu, Libvirt, Firecracker, Cpuid };
// "qemu", "libvirt", "firecracker", "cpuid"; a Usage error with the nearest one.
Result<ImportFormat> parse_import_format(std::string_view name);
std::string_view import_format_name(ImportFormat format);

struct ImportInput {
  std::string_view text;
  std::string file;  // for messages
  std::string name;  // of the model to be made
  std::string base;  // Firecracker: the CPU that the template is laid over
};

// Something that the source says and the model does not, or that the model has and the source does
// not say.
struct ImportNote {
  std::string place;  // FILE:LINE:COLUMN; empty where it is about the whole
  std::string text;
  std::string line() const { return place.empty() ? text : place + ": " + text; }
};

struct ImportedModel {
  CpuModel model;                // version 1
  std::optional<CpuModel> base;  // a version of a built-in model, of which the file says changes
  std::string source;            // "QEMU's Haswell-v4,+pdpe1gb", printable
  std::vector<ImportNote> notes;
};

// The largest file of a format that is read.
std::size_t import_size_limit(ImportFormat format);

// Usage errors with FILE:LINE:COLUMN, and the nearest name for what is misspelt.
Result<ImportedModel> import_cpu_model(ImportFormat format, const ImportInput& input);

// One each; import_cpu_model() chooses.
Result<ImportedModel> import_qemu(const ImportInput& input);
Result<ImportedModel> import_libvirt(const ImportInput& input);
Result<ImportedModel> import_firecracker(const ImportInput& input);
Result<ImportedModel> import_cpuid(const ImportInput& input);

// The model as a file, which parse_cpu_model() reads as `model`.
std::string imported_text(const ImportedModel& imported);

}  // namespace vmm
