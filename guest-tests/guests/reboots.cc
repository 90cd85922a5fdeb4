// Resets the machine in each way there is, one after the other: what counts its boots is sector 0
// of its disk, the only thing that a reset leaves. Each time memory, the image's own data, an MSR,
// the LAPIC and the UART must be as after power-on, although the life before has changed them, and
// the reset comes while a read of the disk is under way. Where there is a second processor it runs
// meanwhile, and asks for the last one. Ends with 0 at the fifth boot.
#include "guest-tests/guests/processors.h"
#include "guest-tests/guests/virtio_disk.h"

using namespace guest;

namespace {

constexpr uint32_t kWords = 512 / 4;
constexpr uint32_t kFlight = 16384;  // bytes
constexpr uint32_t kIa32SysenterEsp = 0x175;
constexpr uintptr_t kFarAway = 0x700000;  // RAM that no image and no loader uses
constexpr uint32_t kMark = 0x5eed5eed;

alignas(4096) Rings rings;
alignas(16) volatile uint32_t sector[kWords];
alignas(16) volatile uint8_t landing[kFlight];
BlockHeader flight;
volatile uint8_t flight_status;
volatile uint32_t own_data = kMark;
volatile bool ap_resets;
volatile uint32_t ap_count;

void reset_by_port_cf9(uint8_t how) { out8(0xcf9, how); }

void leave_a_read_under_way(VirtioDisk& disk) {
  flight = {spec::BLK_IN, 0, 0};
  disk.describe(10, &flight, sizeof flight, spec::DESC_NEXT, 11);
  disk.describe(11, const_cast<uint8_t*>(landing), kFlight, spec::DESC_NEXT | spec::DESC_WRITE, 12);
  disk.describe(12, const_cast<uint8_t*>(&flight_status), 1, spec::DESC_WRITE);
  disk.offer(10);
}

}  // namespace

extern "C" void ap_main() {
  processor_is_up();
  while (!ap_resets) {
    ap_count = ap_count + 1;
    asm volatile("pause");  // the vmx lab takes a processor that loops from it at PAUSE alone
  }
  reset_by_port_cf9(6);
  stop();
}

uint32_t guest_main(uint32_t, uint32_t) {
  const bool smp = processor_count() > 1;
  require(in8(kCom1 + spec::SCR) == 0, "the UART's scratch register is 0", 1);
  serial_init();
  auto& far_away = *reinterpret_cast<volatile uint32_t*>(kFarAway);
  require(far_away == 0, "memory is 0", 2);
  require(own_data == kMark, "the image's data are its own", 3);
  require(rdmsr(kIa32SysenterEsp) == 0, "IA32_SYSENTER_ESP is 0", 4);
  require(lapic_read(spec::TPR) == 0, "the LAPIC's TPR is 0", 5);
  require((in8(0x92) & 1) == 0, "port 92h is as after power-on", 6);
  PciDevice pci;
  require(find_pci_device(spec::VIRTIO_BLK, pci), "a virtio disk is on PCI", 7);
  static VirtioDisk disk(pci, true, rings);
  require(disk.find_windows(), "with all of its windows", 8);
  disk.enable();
  require(disk.status() == 0, "the disk has no driver", 9);
  require(disk.start(0), "the driver and the device agree", 10);
  require(disk.request(spec::BLK_IN, 0, const_cast<uint32_t*>(sector), 512) == spec::BLK_OK,
          "the sector is read", 11);
  const uint32_t boot = sector[0];
  print("boot ", decimal(boot), "\n");
  sector[0] = boot + 1;
  require(disk.request(spec::BLK_OUT, 0, const_cast<uint32_t*>(sector), 512) == spec::BLK_OK,
          "the next number is written", 12);
  if (smp) require(start_processors(2), "the other processor runs", 13);

  far_away = kMark;
  own_data = 0;
  wrmsr(kIa32SysenterEsp, 0x1234);
  lapic_write(spec::TPR, 0x20);
  out8(kCom1 + spec::SCR, 0x5a);
  leave_a_read_under_way(disk);
  switch (boot) {
    case 0:
      reset_by_port_cf9(0x0f);  // as the FADT says
      break;
    case 1:
      out8(0x92, 3);
      break;
    case 2:
      out8(0x64, 0xfe);
      break;
    case 3:
      if (!smp) reset_by_port_cf9(6);
      ap_resets = true;
      while (true) in8(0x80);
    default:
      return 0;
  }
  require(false, "nothing is executed behind a reset", 20);
  return 1;
}
