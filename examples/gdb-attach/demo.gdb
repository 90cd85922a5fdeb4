# gdb -batch -x examples/gdb-attach/demo.gdb
set pagination off
set confirm off

# The guest waits at its first instruction; its console stays in this terminal.
shell rm -f gdb.sock; build/vmm run -q --smp 2 --gdb unix:gdb.sock build/guests/gdb-attach.elf </dev/null &
shell for i in $(seq 100); do test -S gdb.sock && break; sleep 0.1; done; sleep 0.1
file build/guests/gdb-attach.elf
target remote gdb.sock

echo \n-- the first instruction\n
x/i $rip
info registers cr0 cr4 efer cs_attr

echo \n-- the C entry\n
thbreak guest_main
continue
backtrace

echo \n-- the second processor\n
thbreak ap_main
continue
info threads

echo \n-- steps over a timer tick: interrupts wait, so they end in the loop and not in on_timer\n
thbreak work
continue
print ticks
stepi 200
frame
print ticks

echo \n-- how the guest's tables translate an address\n
monitor walk work
monitor walk 0x8000000000

echo \n-- the fault\n
thbreak *page_fault_entry
continue
monitor explain

echo \n-- its handler, and the way there through the frame of the exception\n
thbreak page_fault
continue
backtrace
kill
