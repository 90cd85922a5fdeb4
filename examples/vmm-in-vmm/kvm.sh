# In the guest: KVM of its own.
vendor=amd
grep -q GenuineIntel /proc/cpuinfo && vendor=intel
for module in irqbypass kvm kvm-$vendor; do insmod /modules/$module.ko || exit; done
