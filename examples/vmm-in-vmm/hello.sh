# In the guest: its own KVM, and in that a guest of its own.
. /kvm.sh
/vmm run /guests/hello.elf
