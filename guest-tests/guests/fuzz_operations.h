// Each is one operation, or a burst of them, at one device: registers of every width and alignment,
// and now and then what the device is for, so that its states are reached.
#pragma once

namespace fuzz {

using Operation = void (*)();

// fuzz_interrupt_controllers.cc
void lapic_register();
void ipis();
void lapic_timer();
void tsc_deadline();
void ends_of_interrupt();
void x2apic_msr();
void apic_base();
void task_priority();
void ioapic();
// fuzz_devices.cc
void pics();
void pit();
void rtc();
void keyboard_controller();
void pci();
void acpi();
void fw_cfg();
void fw_cfg_dma();
void vga();
void serial();
void test_device();
void any_port();
void any_memory();
void any_msr();

// One that is there twice is met twice as often.
constexpr Operation kOperations[] = {
    lapic_register,
    lapic_register,
    ipis,
    lapic_timer,
    tsc_deadline,
    ends_of_interrupt,
    x2apic_msr,
    x2apic_msr,
    apic_base,
    task_priority,
    ioapic,
    ioapic,
    pics,
    pit,
    rtc,
    keyboard_controller,
    pci,
    acpi,
    fw_cfg,
    fw_cfg_dma,
    vga,
    serial,
    test_device,
    any_port,
    any_memory,
    any_msr,
};
constexpr unsigned kOperationCount = sizeof kOperations / sizeof kOperations[0];

}  // namespace fuzz
