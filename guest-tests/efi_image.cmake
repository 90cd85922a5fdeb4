# EFI images of freestanding code, without a linker for PE: code that runs anywhere is linked behind PE
# headers that are written in assembly, and objcopy keeps the bytes. The link fails where something
# would need relocation (efi_image.ld).

set(EFI_IMAGE_DIR ${PROJECT_SOURCE_DIR}/examples/uefi-hypervisor)

add_library(efi_options INTERFACE)
target_link_libraries(efi_options INTERFACE freestanding_options)
target_compile_options(efi_options INTERFACE -m64 -fpie -fvisibility=hidden)
target_link_options(efi_options INTERFACE -m64 -static-pie -Wl,-T,${EFI_IMAGE_DIR}/efi_image.ld)

# efi_code(NAME SOURCES a.cc ...): the code of an image, compiled once.
function(efi_code name)
  cmake_parse_arguments(ARG "" "" "SOURCES" ${ARGN})
  add_library(efi_code_${name} OBJECT ${ARG_SOURCES} ${GUEST_DIR}/support.cc)
  target_link_libraries(efi_code_${name} PRIVATE efi_options)
endfunction()

# efi_image(NAME application|driver OUTPUT) -> build/guests/OUTPUT, and build/guests/NAME.elf (of a
# driver NAME-driver.elf) with its symbols, by which the image names itself.
function(efi_image name kind output)
  set(symbols ${name})
  set(subsystem 10)
  if(kind STREQUAL driver)
    set(symbols ${name}-driver)
    set(subsystem 11)
  endif()
  set(target efi_${symbols})
  add_executable(${target} ${EFI_IMAGE_DIR}/pe_header.S $<TARGET_OBJECTS:efi_code_${name}>)
  target_link_libraries(${target} PRIVATE efi_options)
  target_compile_definitions(${target} PRIVATE SUBSYSTEM=${subsystem} SYMBOLS="${symbols}.elf")
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME ${symbols} SUFFIX .elf LINKER_LANGUAGE CXX LINK_DEPENDS ${EFI_IMAGE_DIR}/efi_image.ld
    RUNTIME_OUTPUT_DIRECTORY ${GUEST_OUTPUT})
  get_filename_component(folder ${GUEST_OUTPUT}/${output} DIRECTORY)
  add_custom_command(
    OUTPUT ${GUEST_OUTPUT}/${output}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
    COMMAND ${CMAKE_OBJCOPY} -O binary $<TARGET_FILE:${target}> ${GUEST_OUTPUT}/${output}
    DEPENDS ${target} VERBATIM)
  add_custom_target(${target}_image DEPENDS ${GUEST_OUTPUT}/${output})
  add_dependencies(guests ${target}_image)
endfunction()
