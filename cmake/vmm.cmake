# Helpers shared by every folder's CMakeLists.txt.

# A vmm that is copied into another machine takes its libraries along, and every shared library costs a
# process pages and a start time of its own. So it is linked with archives wherever Debian has them;
# what remains shared is libc, libm and Zydis. The sanitizers want their own way.
set(VMM_ARCHIVES ON)
if(VMM_SANITIZE)
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
# GCC 12 sees overlapping copies and overflows in std::string's own operator+ (its bug 105651).
target_compile_options(vmm_options INTERFACE
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread>)
target_compile_definitions(vmm_options INTERFACE VMM_VERSION="${PROJECT_VERSION}")
# Log and error lines name sources as paths in the repository, the same on every machine.
target_compile_options(vmm_options INTERFACE -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=)
if(VMM_SANITIZE)
  target_compile_options(vmm_options INTERFACE -fsanitize=${VMM_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(vmm_options INTERFACE -fsanitize=${VMM_SANITIZE})
  # Binaries of up to 300 MB, some sixty: GNU ld takes five times as long.
  find_program(VMM_LLD ld.lld)
  if(VMM_LLD)
    target_link_options(vmm_options INTERFACE -fuse-ld=lld)
  endif()
  # The compilers have no common name for this.
  if(VMM_SANITIZE MATCHES address)
    target_compile_definitions(vmm_options INTERFACE VMM_ASAN)
  elseif(VMM_SANITIZE MATCHES thread)
    target_compile_definitions(vmm_options INTERFACE VMM_TSAN)
  endif()
  # GCC warns that ThreadSanitizer does not understand fences: ours order memory shared with another
  # process, which it could not see anyway.
  if(VMM_SANITIZE STREQUAL thread AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    target_compile_options(vmm_options INTERFACE -Wno-tsan)
  endif()
endif()

add_library(vmm_product_options INTERFACE)
target_link_libraries(vmm_product_options INTERFACE vmm_options fmt::fmt)
# Unoptimized, the fuzzing guest takes twice as long under ASan.
if(VMM_SANITIZE)
  target_compile_options(vmm_product_options INTERFACE -O1)
endif()
# What the fuzz targets link counts the edges that it takes.
if(VMM_FUZZ)
  target_compile_options(vmm_product_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Most of a file's compile time goes into headers of the standard library, {fmt} and gtest. They are parsed
# once for the monitor and once for its tests. Every file still includes what it needs: the tsan preset has
# this off, and shows it.
option(VMM_PRECOMPILE "Precompile the headers of the libraries" ON)
set(VMM_HEADERS <algorithm> <array> <chrono> <cstdint> <functional> <map> <memory> <optional> <span> <string>
                <string_view> <utility> <vector> <fmt/format.h>)

# vmm_headers(NAME OPTIONS header ...): precompiles them with the options of that target.
function(vmm_headers name options)
  if(VMM_PRECOMPILE)
    add_library(${name} OBJECT ${PROJECT_SOURCE_DIR}/cmake/precompiled.cc)
    target_link_libraries(${name} PUBLIC ${options})
    target_precompile_headers(${name} PRIVATE ${ARGN})
  endif()
endfunction()

# vmm_precompiled(NAME HEADERS): that target starts from what vmm_headers(HEADERS) made.
function(vmm_precompiled name headers)
  if(VMM_PRECOMPILE)
    target_precompile_headers(${name} REUSE_FROM ${headers})
  endif()
endfunction()

# Several sources of a library or a test in one compilation: the headers that no list precompiles are parsed,
# and templates are made, once for all of them, which takes a third of the time. For whole builds: after a
# small change it compiles more. apart.txt lists the sources whose own names (in anonymous namespaces) are
# those of a neighbour; two such sources cannot be compiled as one.
option(VMM_UNITY "Compile several sources at once" OFF)
file(STRINGS ${PROJECT_SOURCE_DIR}/cmake/apart.txt VMM_APART REGEX "^[^#]")
set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
             ${PROJECT_SOURCE_DIR}/cmake/apart.txt)
function(vmm_unity name)
  if(NOT VMM_UNITY)
    return()
  endif()
  set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  file(RELATIVE_PATH folder ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  get_target_property(sources ${name} SOURCES)
  foreach(source IN LISTS sources)
    if("${folder}/${source}" IN_LIST VMM_APART)
      set_source_files_properties(${source} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    endif()
  endforeach()
endfunction()

vmm_headers(vmm_product_headers vmm_product_options ${VMM_HEADERS})

# vmm_library(NAME SOURCES a.cc ... LINK other ...): one layer of the house.
function(vmm_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC vmm_options ${ARG_LINK})
  target_link_libraries(${name} PRIVATE vmm_product_options)
  vmm_precompiled(${name} vmm_product_headers)
  vmm_unity(${name})
endfunction()

# vmm_test(NAME SOURCES a_test.cc ... LINK lib ... [LABELS kvm]): a gtest binary whose cases ctest
# lists one by one. Tests run in the source folder, so that fixtures are plain relative paths.
if(VMM_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
  add_library(vmm_test_options INTERFACE)
  target_link_libraries(vmm_test_options INTERFACE vmm_options fmt::fmt GTest::gmock)
  # A quarter of their compile time, and they are no faster for it. Not -O0: it would not take -O2's headers.
  target_compile_options(vmm_test_options INTERFACE $<$<CONFIG:Release>:-O1>)
  vmm_headers(vmm_test_headers vmm_test_options ${VMM_HEADERS} <gmock/gmock.h> <gtest/gtest.h>)
endif()
add_custom_target(unit_tests)  # those that need no /dev/kvm
function(vmm_test name)
  if(NOT VMM_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} vmm_test_options GTest::gtest_main)
  vmm_precompiled(${name} vmm_test_headers)
  vmm_unity(${name})
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
  if(NOT benchmark_FOUND OR VMM_SANITIZE)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} benchmark::benchmark)
endfunction()

# vmm_fuzz(NAME SOURCES a_fuzz.cc LINK lib ...): a libFuzzer target, built by the dev preset only.
add_custom_target(fuzz_targets)
function(vmm_fuzz name)
  if(NOT VMM_FUZZ)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE vmm_product_options ${ARG_LINK})
  vmm_precompiled(${name} vmm_product_headers)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzz_targets ${name})
endfunction()
