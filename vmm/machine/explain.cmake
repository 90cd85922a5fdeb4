# Why a guest died: rules over values, so it needs neither KVM nor the rest of the machine.
find_package(zydis REQUIRED)
vmm_library(vmm_explain
  SOURCES disassemble.cc explain.cc explain_entry.cc explain_exit.cc explain_facts.cc
          explain_fault.cc explain_gates.cc explain_rules.cc
  LINK vmm_core Zydis::Zydis)
vmm_test(explain_test
  SOURCES disassemble_test.cc
  LINK vmm_explain)
