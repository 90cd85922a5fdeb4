// An EFI hypervisor: goes under the firmware on every processor, proves it, and starts what comes
// next. The firmware calls efi_main in the image that it loaded, whose memory goes with it; so all
// of it, which runs anywhere, is copied to memory that stays, and goes on there.
#include "examples/uefi-hypervisor/firmware.h"
#include "examples/uefi-hypervisor/resident.h"

extern "C" {
void* memcpy(void* target, const void* source, __SIZE_TYPE__ count);
[[gnu::visibility("hidden")]] extern const uint8_t image_start[], image_end[];  // efi_image.ld
}

namespace {

using namespace efi_hypervisor;
using guest::decimal;

// The hypervisor's tables and the APIC have no business in each other's gigabyte.
constexpr uint64_t kBelowDevices = 3ull << 30;
constexpr uint64_t kProcessorTimeout = 30'000'000;  // microseconds
constexpr uint32_t kRounds = 2;                     // of INIT and SIPI for the processors

Firmware firmware;
Vendor kind;
uint32_t count;
Processor* processors;

Processor* own_processor() {
  Processor* own = by_apic_id[guest::cpuid(1).ebx >> 24];
  return own;
}

bool is_under(uint32_t index) {
  const guest::CpuidRegs name = guest::cpuid(kHypervisorLeaf);
  return name.ebx == kName.ebx && name.ecx == kName.ecx && name.edx == kName.edx &&
         guest::cpuid(kProcessorLeaf).eax == index;
}

// What each processor does; the others have it from StartupAllAPs.
EFIAPI void virtualize(void*) {
  Processor* own = own_processor();
  if (own != nullptr && go_under(*own) && is_under(own->index)) own->checked = 1;
}

EFIAPI void check(void*) {
  Processor* own = own_processor();
  if (own != nullptr && is_under(own->index)) ++own->checked;
}

void run_on_others(efi::MpServices* services, efi::Procedure procedure, const char* what) {
  if (count == 1) return;  // StartupAllAPs knows no success without APs
  uint64_t* failed = nullptr;
  const efi::Status status = services->startup_all_aps(services, procedure, false, nullptr,
                                                       kProcessorTimeout, nullptr, &failed);
  if (status == efi::kSuccess) return;
  if (failed != nullptr && failed[0] < count)
    firmware.fail(kLost, "processor ", decimal(static_cast<uint32_t>(failed[0])), " (APIC id ",
                  decimal(processors[failed[0]].apic_id), ") does not come back from ", what,
                  " within 30 seconds; it had ", decimal(processors[failed[0]].exits),
                  " exits, INIT ", decimal(processors[failed[0]].inits), ", SIPI ",
                  decimal(processors[failed[0]].sipis));
  firmware.fail(kLost, "StartupAllAPs ends with ", guest::hex(status), " for ", what);
}

// Memory for each processor, and which is whose.
void list_processors(efi::MpServices* services) {
  processors = reinterpret_cast<Processor*>(
      firmware.allocate_resident(count * sizeof(Processor), kBelowDevices));
  if (processors == nullptr)
    firmware.fail(kNotPossible, "no memory below 3 GiB for ", decimal(count), " processors");
  for (uint32_t i = 0; i < count; ++i) {
    efi::ProcessorInformation information{};
    const efi::Status status = services->get_processor_info(services, i, &information);
    if (status != efi::kSuccess)
      firmware.fail(kNotPossible, "GetProcessorInfo of processor ", decimal(i), " ends with ",
                    guest::hex(status));
    if ((information.status & efi::kIsEnabled) == 0)
      firmware.fail(kNotPossible, "processor ", decimal(i), " is disabled by the firmware");
    if (information.id > kMaxApicId)
      firmware.fail(kNotPossible, "processor ", decimal(i), " has APIC id ",
                    guest::hex(information.id), ": above 255");
    processors[i].index = i;
    processors[i].apic_id = static_cast<uint32_t>(information.id);
    by_apic_id[information.id] = &processors[i];
  }
}

// What all processors share, built while there is one.
void prepare() {
  constexpr uint64_t kCr4La57 = 1 << 12;
  if ((guest::read_cr4() & kCr4La57) != 0)
    firmware.fail(kNotPossible, "the firmware uses 5-level paging (CR4.LA57), the hypervisor 4");
  build_host();
  const char* refusal = nullptr;
  if (kind == Vendor::Vmx) {
    refusal = vmx_half::prepare();
  } else {
    uint8_t* page = firmware.allocate_resident(4096, 0xa0000);
    refusal = page == nullptr ? "no page below 1 MiB for SIPIs" : svm_half::prepare(page);
  }
  if (refusal != nullptr) firmware.fail(kNotPossible, refusal);
}

void virtualize_all(efi::MpServices* services) {
  run_on_others(services, virtualize, "going under the hypervisor");
  virtualize(nullptr);
  uint32_t under = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const Processor& processor = processors[i];
    under += processor.checked;
    if (processor.checked != 0) continue;
    const char* why = processor.refusal != nullptr
                          ? processor.refusal
                          : "CPUID of the hypervisor, though it was entered";
    if (processor.refusal_detail == 0)
      firmware.say("efi-hypervisor: processor ", decimal(i), " (APIC id ",
                   decimal(processor.apic_id), ") is not virtualized; what fails: ", why);
    else
      firmware.say("efi-hypervisor: processor ", decimal(i), " (APIC id ",
                   decimal(processor.apic_id), ") is not virtualized; what fails: ", why, " ",
                   guest::hex(processor.refusal_detail));
  }
  firmware.say("efi-hypervisor: ", decimal(under), " of ", decimal(count),
               " processors virtualized");
  if (under != count) guest::exit_with(kNotVirtualized);
}

// The firmware starts its processors anew for each call, by INIT and SIPI where they sleep in HLT.
void start_again(efi::MpServices* services) {
  for (uint32_t round = 1; round <= kRounds && count > 1; ++round) {
    run_on_others(services, check, "another StartupAllAPs");
    uint32_t came = 0, inits = 0, sipis = 0;
    for (uint32_t i = 0; i < count; ++i) {
      came += processors[i].checked == round + 1 ? 1 : 0;
      inits += processors[i].inits;
      sipis += processors[i].sipis;
    }
    firmware.say("efi-hypervisor: ", decimal(came), " of ", decimal(count - 1),
                 " other processors started again under it, INIT ", decimal(inits), ", SIPI ",
                 decimal(sipis));
    if (came != count - 1) guest::exit_with(kLost);
  }
}

// True if there is such a file, and it was started and ended well.
bool start_next(const char* name) {
  efi::Status status = efi::kSuccess;
  const Firmware::Started started = firmware.start_image(name, status);
  if (started == Firmware::Started::NotThere) return false;
  if (started == Firmware::Started::NotLoaded)
    firmware.fail(kNextImage, "\\EFI\\", name,
                  ".EFI is there and cannot be loaded: ", guest::hex(status));
  if (status != efi::kSuccess)
    firmware.fail(kNextImage, "\\EFI\\", name, ".EFI ended with ", guest::hex(status));
  firmware.say("efi-hypervisor: \\EFI\\", name, ".EFI ended with success");
  return true;
}

const char* vendor_name() {
  // Its guests are not shown the means.
  if (is_under(0)) return "under a hypervisor of this kind already";
  return kind == Vendor::Vmx ? "VT-x" : kind == Vendor::Svm ? "SVM" : "neither VT-x nor SVM";
}

efi::Status stay_or_end() {
  if (firmware.started_as_driver()) return efi::kSuccess;
  // The boot manager goes on to the next option.
  if (firmware.option("stay")) return efi::kNotFound;
  if (!start_next("NEXT")) start_next("LINUX");
  firmware.say("efi-hypervisor: powers off");
  firmware.power_off();
}

EFIAPI efi::Status resident_main(efi::Handle image, efi::SystemTable* table) {
  firmware.start(image, table);
  kind = vendor();
  efi::MpServices* services = firmware.mp_services();
  uint64_t number = 0, enabled = 0;
  if (services == nullptr)
    firmware.fail(kNotPossible, "the firmware has no MP services (EFI_MP_SERVICES_PROTOCOL)");
  services->get_number_of_processors(services, &number, &enabled);
  count = static_cast<uint32_t>(number);
  firmware.say("efi-hypervisor: ", decimal(count), count == 1 ? " processor, " : " processors, ",
               vendor_name(), ", started as ",
               firmware.started_as_driver() ? "a driver" : "an application");
  if (is_under(0)) return stay_or_end();
  if (kind == Vendor::None)
    firmware.fail(kNotPossible, "CPUID has neither VT-x (1.ECX[5]) nor SVM (80000001h.ECX[2]): ",
                  "give the CPU model +vmx or +svm");
  list_processors(services);
  prepare();
  virtualize_all(services);
  start_again(services);
  return stay_or_end();
}

}  // namespace

extern "C" EFIAPI efi::Status efi_main(efi::Handle image, efi::SystemTable* table) {
  const auto size = static_cast<uint64_t>(image_end - image_start);
  uint64_t address = kBelowDevices - 1;
  if (table->boot->allocate_pages(efi::AllocateMaxAddress, efi::RuntimeServicesCode,
                                  (size + 4095) / 4096, &address) != efi::kSuccess) {
    guest::print("efi-hypervisor: no memory below 3 GiB to stay in\n");
    guest::exit_with(kNotPossible);
  }
  memcpy(reinterpret_cast<void*>(address), image_start, size);
  const auto offset =
      reinterpret_cast<uint64_t>(&resident_main) - reinterpret_cast<uint64_t>(image_start);
  return reinterpret_cast<decltype(&resident_main)>(address + offset)(image, table);
}

extern "C" void serve_processor(Processor* processor, uint64_t rip, uint64_t rsp) {
  if (kind == Vendor::Vmx)
    vmx_half::serve(*processor, rip, rsp);
  else
    svm_half::serve(*processor, rip, rsp);
}
