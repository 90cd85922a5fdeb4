// What every device promises (vmm/core/device.h), asked of all of them with the same questions.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "devices/acpi_pm.h"
#include "devices/bochs_shutdown.h"
#include "devices/debug_exit.h"
#include "devices/debugcon.h"
#include "devices/fw_cfg.h"
#include "devices/i8042.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"
#include "devices/pc_testdev.h"
#include "devices/pci_host.h"
#include "devices/pflash.h"
#include "devices/pic8259.h"
#include "devices/pit8254.h"
#include "devices/port92.h"
#include "devices/post_port.h"
#include "devices/reset_port.h"
#include "devices/rtc_cmos.h"
#include "devices/serial16550.h"
#include "devices/vga_text.h"
#include "devices/virtio_blk.h"
#include "devices/vmware_port.h"
#include "vmm/core/flash_store_fake.h"
#include "vmm/core/irq_fake.h"

namespace vmm {
namespace {

// The world outside: a sink that is full every third time, a source that has something every
// second.
class FickleStreams final : public ByteSink, public ByteSource {
 public:
  bool put(std::uint8_t) override { return ++puts_ % 3 != 0; }
  std::optional<std::uint8_t> get() override {
    if (++gets_ % 2 == 0) return std::nullopt;
    return static_cast<std::uint8_t>(gets_);
  }

 private:
  unsigned puts_ = 0;
  unsigned gets_ = 0;
};

// One device with everything that it is wired to.
class Rig {
 public:
  static constexpr unsigned kPins = 24;

  virtual ~Rig() = default;
  virtual Device& device() = 0;
  virtual bool same_state(const Rig& other) const = 0;
  virtual bool at_power_on() const = 0;
  // Something happens at the device's other side, where it is wired.
  virtual void outside(std::uint64_t dice) = 0;

  // The level of each pin, as its sink saw it.
  bool all_lines_low() const {
    std::array<bool, kPins> level{};
    for (const auto& [gsi, high] : irq.changes) level.at(gsi) = high;
    return std::none_of(level.begin(), level.end(), [](bool high) { return high; });
  }

  RecordingIrq irq;
  IrqPins pins{irq, kPins};
  FickleStreams streams;
  std::vector<std::uint8_t> window = std::vector<std::uint8_t>(VgaText::kWindowSize);
  FakeFlashStore flash{0x2000};
  GuestMemory memory = std::move(GuestMemory::create(1_MiB)).value();
  unsigned events = 0;
};

template <typename D>
class RigOf final : public Rig {
 public:
  using Outside = std::function<void(D&, std::uint64_t dice)>;
  RigOf(const std::function<std::unique_ptr<D>(Rig&)>& make, Outside outside)
      : device_(make(*this)), outside_(std::move(outside)) {}
  Device& device() override { return *device_; }
  bool same_state(const Rig& other) const override {
    return device_->state() == dynamic_cast<const RigOf&>(other).device_->state();
  }
  bool at_power_on() const override { return device_->state() == typename D::State{}; }
  void outside(std::uint64_t dice) override {
    if (outside_) outside_(*device_, dice);
  }

 private:
  std::unique_ptr<D> device_;
  Outside outside_;
};

struct Subject {
  std::string name;
  std::function<std::unique_ptr<Rig>()> make;
  // The field in which the chip tells the guest of accesses that it refused, if it does.
  std::string refusals = "";
  // How far apart registers are and how wide, mostly.
  std::uint64_t stride = 1;
  std::size_t width = 1;
};

template <typename D>
Subject subject(std::string name, std::function<std::unique_ptr<D>(Rig&)> make,
                typename RigOf<D>::Outside outside = {}) {
  Subject made;
  made.name = std::move(name);
  made.make = [make = std::move(make), outside = std::move(outside)]() -> std::unique_ptr<Rig> {
    return std::make_unique<RigOf<D>>(make, outside);
  };
  return made;
}

// The trapped window needs the chip that it belongs to.
struct WindowWithChip {
  VgaText vga;
  VgaWindow window;
  explicit WindowWithChip(Rig& rig) : vga("vga", rig.window), window("vga-window", vga) {}
};
class OwningWindow final : public Device {
 public:
  using State = VgaWindow::State;
  explicit OwningWindow(Rig& rig) : parts_(rig) {}
  std::string_view name() const override { return parts_.window.name(); }
  void reset() override { parts_.window.reset(); }
  Access read(std::uint64_t offset, std::span<std::uint8_t> data) override {
    return parts_.window.read(offset, data);
  }
  Access write(std::uint64_t offset, std::span<const std::uint8_t> data) override {
    return parts_.window.write(offset, data);
  }
  void visit(Archive& archive) override { parts_.window.visit(archive); }
  const State& state() const { return parts_.window.state(); }

 private:
  WindowWithChip parts_;
};

std::array<IrqLine, PcTestdev::kLines> all_lines(IrqPins& pins) {
  std::array<IrqLine, PcTestdev::kLines> lines;
  for (unsigned n = 0; n < lines.size(); ++n) lines[n] = pins.line(n);
  return lines;
}

Subject lapic() {
  Subject made = subject<Lapic>(
      "lapic",
      [](Rig& rig) {
        const auto event = [&rig](const auto&...) { ++rig.events; };
        return std::make_unique<Lapic>(
            "lapic0", 0, true,
            Lapic::Wires{.send = event, .broadcast_eoi = event, .local_event = event, .note = {}});
      },
      [](Lapic& lapic, std::uint64_t dice) {
        lapic.accept(static_cast<std::uint8_t>(dice), (dice & 0x100) != 0);
        lapic.set_lint((dice >> 9) & 1, (dice & 0x400) != 0);
        if (const auto vector = lapic.pending()) lapic.acknowledge(*vector);
      });
  made.refusals = "errors";
  made.stride = 16;
  made.width = 4;
  return made;
}

// The guest's memory is zeroes, so the ring that a driver may set up by chance is empty or broken.
Subject virtio_blk() {
  return subject<VirtioBlk>(
      "virtio_blk",
      [](Rig& rig) {
        const auto event = [&rig](const auto&...) { ++rig.events; };
        return std::make_unique<VirtioBlk>(
            "disk0", BlockGeometry{.sectors = 64, .id = "id"}, rig.memory,
            VirtioPci::Wires{
                .line = rig.pins.line(11), .msi = event, .remap = event, .work = event});
      },
      [](VirtioBlk& disk, std::uint64_t dice) {
        std::array<std::uint8_t, 4> data;
        store(data, 0, static_cast<std::uint32_t>(dice >> 16));
        const auto offset = static_cast<std::uint8_t>(dice & 0xfc);
        if ((dice & 1) != 0)
          disk.write_config(offset, data);
        else
          disk.read_config(offset, data);
        std::array<std::uint8_t, kSectorSize> buffer{};
        if (const auto job = disk.next_job(buffer)) disk.finish_job(*job, (dice & 2) != 0, buffer);
      });
}

// A new device is one line here.
std::vector<Subject> subjects() {
  const auto event = [](Rig& rig) { return [&rig] { ++rig.events; }; };
  return {
      subject<Serial16550>("serial16550",
                           [](Rig& rig) {
                             return std::make_unique<Serial16550>("serial0", rig.pins.line(4),
                                                                  &rig.streams, &rig.streams);
                           }),
      subject<VgaText>("vga_text",
                       [](Rig& rig) { return std::make_unique<VgaText>("vga", rig.window); }),
      subject<OwningWindow>("vga_window",
                            [](Rig& rig) { return std::make_unique<OwningWindow>(rig); }),
      subject<DebugExit>("debug_exit",
                         [](Rig& rig) {
                           return std::make_unique<DebugExit>(
                               "debug-exit", [&rig](std::uint64_t) { ++rig.events; });
                         }),
      subject<Debugcon>(
          "debugcon",
          [](Rig& rig) { return std::make_unique<Debugcon>("debugcon", &rig.streams); }),
      subject<FwCfg>("fw_cfg",
                     [](Rig& rig) { return std::make_unique<FwCfg>("fw-cfg", &rig.memory); }),
      subject<I8042>(
          "i8042",
          [=](Rig& rig) { return std::make_unique<I8042>("i8042", IrqLine(), event(rig)); }),
      subject<AcpiPm>("acpi_pm",
                      [=](Rig& rig) {
                        return std::make_unique<AcpiPm>("acpi-pm", rig.pins.line(9),
                                                        AcpiPm::Calls{event(rig), event(rig)});
                      }),
      subject<BochsShutdownPort>(
          "bochs_shutdown",
          [=](Rig& rig) { return std::make_unique<BochsShutdownPort>("bochs", event(rig)); }),
      subject<PcTestdev>("pc_testdev",
                         [](Rig& rig) {
                           return std::make_unique<PcTestdev>("testdev", all_lines(rig.pins),
                                                              [&rig](Gpa) { ++rig.events; });
                         }),
      subject<PciHost>("pci_host", [](Rig&) { return std::make_unique<PciHost>("pci", nullptr); }),
      subject<PostPort>("post", [](Rig&) { return std::make_unique<PostPort>("post"); }),
      subject<Port92>("port92",
                      [=](Rig& rig) { return std::make_unique<Port92>("port92", event(rig)); }),
      subject<VmwarePort>("vmware_port",
                          [](Rig& rig) {
                            return std::make_unique<VmwarePort>(
                                "vmware-port",
                                VmwarePort::Caller{
                                    .ask =
                                        [] {
                                          return VmwarePort::Question{0x564d5868, 10};
                                        },
                                    .set_ebx = [&rig](std::uint32_t) { ++rig.events; }});
                          }),
      subject<ResetPort>(
          "reset_port",
          [=](Rig& rig) { return std::make_unique<ResetPort>("rst-cnt", event(rig)); }),
      subject<Pic8259>(
          "pic8259",
          [](Rig& rig) {
            return std::make_unique<Pic8259>("pic",
                                             [&rig](bool level) { rig.irq.set_pin(0, level); });
          },
          [](Pic8259& pic, std::uint64_t dice) {
            pic.set_irq(static_cast<unsigned>(dice % 16), (dice & 0x10) != 0);
            if ((dice & 0x60) == 0) pic.acknowledge();
          }),
      subject<Ioapic>(
          "ioapic",
          [](Rig& rig) {
            return std::make_unique<Ioapic>("ioapic", std::uint8_t{0x20},
                                            [&rig](const ApicMessage&) {
                                              ++rig.events;
                                              return true;
                                            });
          },
          [](Ioapic& ioapic, std::uint64_t dice) {
            ioapic.set_pin(static_cast<unsigned>(dice % Ioapic::kPins), (dice & 0x20) != 0);
            ioapic.eoi(static_cast<std::uint8_t>(dice >> 8));
          }),
      lapic(),
      virtio_blk(),
      subject<PFlash>("pflash",
                      [](Rig& rig) {
                        rig.flash.remembers = false;
                        return std::make_unique<PFlash>("vars", rig.flash);
                      }),
      subject<Pit8254>("pit8254",
                       [](Rig& rig) { return std::make_unique<Pit8254>("pit", rig.pins.line(0)); }),
      subject<RtcCmos>("rtc_cmos",
                       [](Rig& rig) {
                         return std::make_unique<RtcCmos>("rtc", rig.pins.line(8), 1'700'000'000);
                       }),
  };
}

class Contract : public testing::TestWithParam<Subject> {
 protected:
  std::unique_ptr<Rig> rig = GetParam().make();

  // Accesses of every width, near the registers and far from them, with time going on.
  static void stir(Rig& rig, unsigned seed, unsigned count) {
    Device& device = rig.device();
    std::mt19937_64 random(seed);
    VmTime now{0};
    for (unsigned i = 0; i < count; ++i) {
      const std::uint64_t dice = random();
      constexpr std::array<std::size_t, 4> kWidths = {1, 2, 4, 8};
      // Mostly the usual width at low offsets, where the registers are.
      const std::size_t width = (dice & 3) != 0 ? GetParam().width : kWidths[(dice >> 2) & 3];
      std::uint64_t offset = random() % 0x40 * GetParam().stride;
      if ((dice >> 4) % 16 == 0) offset = random() >> (random() % 64);
      std::array<std::uint8_t, 8> data{};
      for (std::uint8_t& byte : data) byte = static_cast<std::uint8_t>(random());
      if ((dice >> 8) % 8 == 0) {
        now += VmTime(random() % 1'000'000);
        device.advance(now);
        (void)device.next_deadline();
        rig.outside(random());
      } else if ((dice >> 8) % 2 == 0) {
        (void)device.read(offset, std::span(data).first(width));
      } else {
        (void)device.write(offset, std::span<const std::uint8_t>(data).first(width));
      }
    }
  }
};

TEST_P(Contract, has_a_stable_name) {
  Device& device = rig->device();
  const std::string name(device.name());
  EXPECT_FALSE(name.empty());
  stir(*rig, 1, 1000);
  device.reset();
  EXPECT_EQ(device.name(), name);
}

TEST_P(Contract, construction_is_power_on_with_lines_low) {
  EXPECT_TRUE(rig->at_power_on());
  EXPECT_TRUE(rig->irq.changes.empty());
}

TEST_P(Contract, random_accesses_never_crash) {
  for (unsigned seed = 0; seed < 8; ++seed) stir(*rig, seed, 10'000);
}

TEST_P(Contract, reset_is_power_on_and_twice_is_once) {
  for (unsigned seed = 0; seed < 4; ++seed) {
    stir(*rig, seed, 10'000);
    rig->device().reset();
    EXPECT_TRUE(rig->at_power_on());
    EXPECT_TRUE(rig->all_lines_low());
    const StateBlock once = save_state(rig->device());
    rig->device().reset();
    EXPECT_TRUE(rig->at_power_on());
    EXPECT_EQ(save_state(rig->device()), once);
  }
}

TEST_P(Contract, a_saved_state_makes_an_equal_device) {
  for (unsigned seed = 10; seed < 14; ++seed) {
    stir(*rig, seed, 10'000);
    const StateBlock saved = save_state(rig->device());
    const std::unique_ptr<Rig> other = GetParam().make();
    const Result<void> loaded = load_state(other->device(), saved);
    ASSERT_TRUE(loaded.has_value()) << loaded.error().text();
    EXPECT_EQ(save_state(other->device()), saved);
    EXPECT_TRUE(rig->same_state(*other));
    EXPECT_TRUE(other->irq.changes.empty()) << "restoring makes no edges";
  }
}

TEST_P(Contract, saving_changes_nothing) {
  stir(*rig, 20, 10'000);
  const StateBlock first = save_state(rig->device());
  const auto edges = rig->irq.changes.size();
  EXPECT_EQ(save_state(rig->device()), first);
  EXPECT_EQ(rig->irq.changes.size(), edges);
}

TEST_P(Contract, every_field_has_a_name_of_its_own) {
  const StateBlock block = save_state(rig->device());
  EXPECT_FALSE(block.kind.empty());
  EXPECT_GE(block.version, 1u);
  for (std::size_t i = 0; i < block.fields.size(); ++i)
    for (std::size_t j = i + 1; j < block.fields.size(); ++j)
      EXPECT_NE(block.fields[i].first, block.fields[j].first);
}

TEST_P(Contract, a_hostile_saved_state_never_crashes) {
  std::mt19937_64 random(7);
  for (unsigned round = 0; round < 50; ++round) {
    stir(*rig, round, 100);
    StateBlock block = save_state(rig->device());
    for (auto& [name, value] : block.fields) {
      // Digits that fit the field's size, seldom its meaning. 0 and 1 may be a bool.
      const bool number = value.starts_with("0x");
      const bool maybe_bool = value == "0x0" || value == "0x1";
      if (name.ends_with("present")) continue;
      for (std::size_t i = number ? 2 : 0; i < value.size(); ++i)
        value[i] = "0123456789abcdef"[random() % (maybe_bool ? 2 : 16)];
    }
    const std::unique_ptr<Rig> other = GetParam().make();
    (void)load_state(other->device(), block);
    stir(*other, round, 1000);
    other->device().reset();
    EXPECT_TRUE(other->all_lines_low());
  }
}

TEST_P(Contract, a_refused_read_leaves_the_data_alone) {
  Device& device = rig->device();
  const auto check = [&](std::uint64_t offset) {
    for (const std::size_t width : {1u, 2u, 4u, 8u}) {
      std::array<std::uint8_t, 8> data;
      data.fill(0x5a);
      if (device.read(offset, std::span(data).first(width)) == Access::Ok) continue;
      for (const std::uint8_t byte : data) EXPECT_EQ(byte, 0x5a) << offset << " width " << width;
    }
  };
  for (std::uint64_t offset = 0; offset < 0x200 * GetParam().stride; ++offset) check(offset);
  for (unsigned bit = 9; bit < 64; ++bit)
    for (const std::uint64_t near : {~std::uint64_t{0}, std::uint64_t{0}, std::uint64_t{1}})
      check((std::uint64_t{1} << bit) + near);
}

TEST_P(Contract, far_offsets_have_no_register) {
  for (const std::uint64_t offset :
       {std::uint64_t{0x20000}, std::uint64_t{1} << 32, ~std::uint64_t{0}, ~std::uint64_t{7}}) {
    std::array<std::uint8_t, 8> data{};
    for (const std::size_t width : {1u, 2u, 4u, 8u}) {
      EXPECT_EQ(rig->device().read(offset, std::span(data).first(width)), Access::NoRegister);
      EXPECT_EQ(rig->device().write(offset, std::span<const std::uint8_t>(data).first(width)),
                Access::NoRegister);
    }
  }
}

TEST_P(Contract, a_refused_write_changes_nothing) {
  Device& device = rig->device();
  const auto state = [&] {
    StateBlock block = save_state(device);
    std::erase_if(block.fields, [](const auto& f) { return f.first == GetParam().refusals; });
    return block;
  };
  const StateBlock before = state();
  const std::array<std::uint8_t, 8> data = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  const std::uint64_t end = std::max<std::uint64_t>(0x100, 0x40 * GetParam().stride);
  for (std::uint64_t offset = 0; offset < end; ++offset) {
    for (const std::size_t width : {1u, 2u, 4u, 8u}) {
      const unsigned events = rig->events;
      if (device.write(offset, std::span(data).first(width)) == Access::Ok) {
        device.reset();
        continue;
      }
      EXPECT_EQ(rig->events, events);
      EXPECT_EQ(state(), before) << offset << " width " << width;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Contract, testing::ValuesIn(subjects()),
                         [](const auto& chosen) { return chosen.param.name; });

}  // namespace
}  // namespace vmm
