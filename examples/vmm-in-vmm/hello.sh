# In the guest: its own KVM, and in that a guest of its own.
vendor=amd
grep -q GenuineIntel /proc/cpuinfo && vendor=intel
for module in irqbypass kvm kvm-$vendor; do insmod /modules/$module.ko || exit; done
/vmm run /hello.elf
