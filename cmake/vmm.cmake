# Helpers shared by every folder's CMakeLists.txt.

# A vmm that is copied into another machine takes its libraries along, and every shared library costs a
# process pages and a start time of its own. So it is linked with archives wherever Debian has them;
# what remains shared is libc, libm and Zydis. The sanitizers want their own way.
set(VMM_ARCHIVES ON)
if(VMM_SANITIZE OR VMM_FUZZ)
  set(VMM_ARCHIVES OFF)
endif()
if(VMM_ARCHIVES)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a .so)
endif()

find_package(fmt REQUIRED)
find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED)

add_library(vmm_options INTERFACE)
target_include_directories(vmm_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(vmm_options INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
                                             -fno-omit-frame-pointer -fstack-protector-strong)
# GCC 12 sees overlapping copies in std::string's own operator+ (its bug 105651).
target_compile_options(vmm_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
target_compile_definitions(vmm_options INTERFACE VMM_VERSION="${PROJECT_VERSION}")
# Log and error lines name sources as paths in the repository, the same on every machine.
target_compile_options(vmm_options INTERFACE -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=)
if(VMM_SANITIZE)
  target_compile_options(vmm_options INTERFACE -fsanitize=${VMM_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(vmm_options INTERFACE -fsanitize=${VMM_SANITIZE})
  # GCC warns that ThreadSanitizer does not understand fences: ours order memory shared with another
  # process, which it could not see anyway.
  if(VMM_SANITIZE STREQUAL thread AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(vmm_options INTERFACE -Wno-tsan)
  endif()
endif()
if(VMM_FUZZ)
  target_compile_options(vmm_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# vmm_library(NAME SOURCES a.cc ... LINK other ...): one layer of the house.
function(vmm_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC vmm_options ${ARG_LINK})
endfunction()

# vmm_test(NAME SOURCES a_test.cc ... LINK lib ... [LABELS kvm]): a gtest binary whose cases ctest
# lists one by one. Tests run in the source folder, so that fixtures are plain relative paths.
if(VMM_TESTS AND NOT VMM_FUZZ)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
add_custom_target(unit_tests)  # those that need no /dev/kvm
function(vmm_test name)
  if(NOT VMM_TESTS OR VMM_FUZZ)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock GTest::gtest_main)
  set(properties TIMEOUT 300)
  if(NOT "kvm" IN_LIST ARG_LABELS)
    add_dependencies(unit_tests ${name})
  endif()
  if(ARG_LABELS)
    list(APPEND properties LABELS "${ARG_LABELS}")
  endif()
  gtest_discover_tests(${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} DISCOVERY_TIMEOUT 60
                       PROPERTIES ${properties})
endfunction()

# vmm_bench(NAME SOURCES a_bench.cc LINK lib ...): a Google Benchmark binary for tools/bench; no part of
# `all` or ctest.
function(vmm_bench name)
  find_package(benchmark QUIET)
  if(NOT benchmark_FOUND OR VMM_SANITIZE OR VMM_FUZZ)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} benchmark::benchmark)
endfunction()

# vmm_fuzz(NAME SOURCES a_fuzz.cc LINK lib ...): a libFuzzer target, built by the fuzz preset only.
add_custom_target(fuzz_targets)
function(vmm_fuzz name)
  if(NOT VMM_FUZZ)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzz_targets ${name})
endfunction()
