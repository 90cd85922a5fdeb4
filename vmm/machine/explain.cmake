# Why a guest died: rules over values, so it needs neither KVM nor the rest of the machine.
find_package(zydis REQUIRED)
find_package(nlohmann_json REQUIRED)
vmm_library(vmm_explain
  SOURCES descriptor_tables.cc disassemble.cc explain.cc explain_dump.cc explain_dump_kernel.cc explain_dump_qemu.cc
          explain_dump_trace.cc explain_entry.cc explain_exit.cc explain_facts.cc explain_fault.cc
          explain_gates.cc explain_l2_walk.cc explain_levels.cc explain_nested.cc explain_rules.cc explain_rules_code.cc explain_rules_endings.cc
          explain_rules_faults.cc explain_rules_lost.cc explain_starts.cc explain_stop.cc explain_tables.cc kernel_slide.cc
          register_text.cc
  LINK vmm_core vmm_nested Zydis::Zydis nlohmann_json::nlohmann_json)
vmm_test(explain_test
  SOURCES disassemble_test.cc explain_dump_test.cc explain_nested_test.cc explain_starts_test.cc explain_tables_test.cc explain_test.cc
          kernel_slide_test.cc
  LINK vmm_explain)
vmm_fuzz(explain_fuzz SOURCES explain_fuzz.cc LINK vmm_explain)
