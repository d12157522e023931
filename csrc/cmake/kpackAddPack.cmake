# kpack_add_pack(<target>
#   KERNELS <file or folder>...   Python files with kernels in them, relative to this folder
#   [ARCH <arch>...]              gfx90a sm_90 ptx_80 ... or native: this machine's GPUs, asked for now. Without it:
#                                 KPACK_ARCH, or else CMAKE_CUDA_ARCHITECTURES or TORCH_CUDA_ARCH_LIST, and GPU_TARGETS,
#                                 AMDGPU_TARGETS or CMAKE_HIP_ARCHITECTURES
#   [WHOLE_ARCHIVE]               all kernels are linked, to be found at run time; without it, those that are named
#   [NAME <pack>]                 the pack's name, as KPACK_KERNEL takes it; without it, the target's
#   [TUNED <table>...]            tuning tables to bake in
#   [HOST <machine>]              x86_64 or aarch64; without it, what CMAKE_SYSTEM_PROCESSOR says
#   [ON_ERROR skip]               pack what compiles, and have the archive say what does not
#   [JOBS <n>]                    processes that compile one file's kernels; without it, one a core
# )
#
# A static library, lib<target>.a, which links kpack::runtime. It can be installed and exported like others.
#
# Each file of KERNELS is compiled by a step of its own, which runs again when the file, or anything that it imports or
# reads, has changed; then all are joined. A folder is one step, which compiles again only what has changed in it.
#
# The command `kpack` is KPACK_EXECUTABLE, the one beside this package, or the one on the PATH.

cmake_policy(VERSION 3.18...3.20)
include("${CMAKE_CURRENT_LIST_DIR}/kpackArchs.cmake")

function(kpack_add_pack target)
  set(what "kpack_add_pack(${target})")
  if(CMAKE_VERSION VERSION_LESS 3.20)  # depfiles in Makefiles
    message(FATAL_ERROR "${what}: expected CMake 3.20 or later, got ${CMAKE_VERSION}")
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 arg "WHOLE_ARCHIVE" "NAME;HOST;ON_ERROR;JOBS" "KERNELS;ARCH;TUNED")
  if(arg_UNPARSED_ARGUMENTS OR arg_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "${what}: expected KERNELS, ARCH, WHOLE_ARCHIVE, NAME, TUNED, HOST, ON_ERROR or JOBS and what "
                        "each takes, got ${arg_UNPARSED_ARGUMENTS} ${arg_KEYWORDS_MISSING_VALUES}")
  endif()
  if(NOT arg_KERNELS)
    message(FATAL_ERROR "${what}: KERNELS: expected a file or folder at least, got none")
  endif()
  if(NOT arg_NAME)
    set(arg_NAME ${target})
  endif()
  if(NOT arg_NAME MATCHES "^[a-z][a-z0-9]*$")
    message(FATAL_ERROR "${what}: NAME: expected a lower-case letter, then lower-case letters and digits, got ${arg_NAME}")
  endif()

  _kpack_find_command("${what}")
  _kpack_choose_archs("${what}" "${arg_ARCH}" archs)
  _kpack_choose_host("${what}" "${arg_HOST}" host)
  set(options --name ${arg_NAME} --host ${host})
  foreach(arch IN LISTS archs)
    list(APPEND options --arch ${arch})
  endforeach()
  if(arg_ON_ERROR)
    list(APPEND options --on-error ${arg_ON_ERROR})
  endif()
  if(arg_JOBS)
    list(APPEND options --jobs ${arg_JOBS})
  endif()
  set(tables)
  set(tuned)
  foreach(table IN LISTS arg_TUNED)
    _kpack_find_file("${what}: TUNED" "${table}" table)
    list(APPEND tables ${table})
    list(APPEND tuned --tuned ${table})
  endforeach()
  list(APPEND options ${tuned})
  list(LENGTH arg_KERNELS count)
  if(count GREATER 1)  # then joining tells what is of no file's kernels
    list(APPEND options --part)
  endif()

  # Each step compiles on all cores: a second one is for the time that Python takes to start.
  get_property(pools GLOBAL PROPERTY JOB_POOLS)
  if(NOT pools MATCHES "(^|;)kpack_build=")
    if(NOT pools)  # the variable is looked at only where the property is empty
      set(pools ${CMAKE_JOB_POOLS})
    endif()
    set_property(GLOBAL PROPERTY JOB_POOLS ${pools} kpack_build=2)
  endif()

  # One archive for each file. Make does not see that a command has changed: it sees its arguments in a file.
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/${target}.kpack)
  get_property(command GLOBAL PROPERTY KPACK_COMMAND)
  string(REPLACE ";" " " shown "${archs}")
  file(CONFIGURE OUTPUT ${folder}/arguments.txt CONTENT "${command};${options}\n" @ONLY)
  set(before)
  if(CMAKE_GENERATOR MATCHES "Makefiles")
    # CMake 3.25 adds what a depfile says to what it said before: a module that is gone would be waited for in each
    # build. Without this file it reads depfiles again.
    set(before COMMAND ${CMAKE_COMMAND} -E rm -f ${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${target}.dir/compiler_depend.internal)
  endif()
  set(parts)
  foreach(kernels IN LISTS arg_KERNELS)
    _kpack_find_file("${what}: KERNELS" "${kernels}" source)
    get_filename_component(stem ${source} NAME_WE)
    set(part ${folder}/${stem}.a)
    set(number 1)
    while(part IN_LIST parts)
      math(EXPR number "${number} + 1")
      set(part ${folder}/${stem}${number}.a)
    endwhile()
    file(RELATIVE_PATH name ${CMAKE_CURRENT_SOURCE_DIR} ${source})
    add_custom_command(
      OUTPUT ${part}
      ${before}
      COMMAND ${command} build --quiet ${options} --output ${part} --depfile ${part}.d ${source}
      DEPENDS ${source} ${tables} ${folder}/arguments.txt
      DEPFILE ${part}.d
      JOB_POOL kpack_build
      COMMENT "Compiling ${name} for ${shown}"
      VERBATIM)
    list(APPEND parts ${part})
  endforeach()

  # CMake knows how to link, install and export a library of its own. What is in it is replaced: the members of a pack
  # are not known before it is built.
  _kpack_write_stub("${what}" ${folder} stub)
  set_source_files_properties(${stub} PROPERTIES OBJECT_DEPENDS "${parts}")
  add_library(${target} STATIC ${stub} ${parts})
  if(count EQUAL 1)
    set(join ${CMAKE_COMMAND} -E copy ${parts} $<TARGET_FILE:${target}>)
  else()
    set(join ${command} join ${tuned} ${parts} --output $<TARGET_FILE:${target}>)
  endif()
  add_custom_command(TARGET ${target} POST_BUILD COMMAND ${join} VERBATIM)
  target_link_libraries(${target} INTERFACE kpack::runtime)
  if(arg_WHOLE_ARCHIVE)
    target_link_options(${target} INTERFACE LINKER:-u,kpack_pack_${arg_NAME})  # the pack refers to all its kernels
  endif()
endfunction()

# An absolute path of what is there, or will be.
function(_kpack_find_file what given result)
  get_filename_component(path "${given}" ABSOLUTE BASE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  get_source_file_property(generated "${path}" GENERATED)
  if(NOT EXISTS "${path}" AND NOT generated)
    message(FATAL_ERROR "${what}: expected a file or folder, got ${given}, which does not exist")
  endif()
  set(${result} "${path}" PARENT_SCOPE)
endfunction()

# Sets the global property KPACK_COMMAND: found and tried once a configuration.
function(_kpack_find_command what)
  get_property(known GLOBAL PROPERTY KPACK_COMMAND)
  if(known)
    return()
  endif()
  # In a wheel, this file is <environment>/lib/python3.x/site-packages/kpack/lib/cmake/kpack.
  get_filename_component(package "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../../.." ABSOLUTE)
  set(hints)
  if(EXISTS "${package}/_installed.py")
    get_filename_component(hints "${package}/../../../../bin" ABSOLUTE)
  endif()
  find_program(KPACK_EXECUTABLE kpack HINTS ${hints} NO_CMAKE_FIND_ROOT_PATH
               DOC "the command kpack, which compiles kernels; or a list: python3;-m;kpack")
  if(NOT KPACK_EXECUTABLE)
    message(FATAL_ERROR "${what}: expected the command kpack, which compiles kernels, got none on the PATH; "
                        "pip install kpack, or give -DKPACK_EXECUTABLE=<where it is>")
  endif()
  execute_process(COMMAND ${KPACK_EXECUTABLE} --version RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(NOT status EQUAL 0 OR NOT said MATCHES "([0-9]+(\\.[0-9]+)+)")
    message(FATAL_ERROR "${what}: expected ${KPACK_EXECUTABLE} --version to say its version, got ${said}")
  endif()
  set(said ${CMAKE_MATCH_1})
  set(own ${kpack_VERSION})
  if(NOT own)  # a subdirectory's, by add_subdirectory
    get_property(own GLOBAL PROPERTY KPACK_VERSION)
  endif()
  if(own AND NOT said VERSION_EQUAL own)
    message(WARNING "${what}: expected kpack ${own}, as this CMake package is, got ${said} from "
                    "${KPACK_EXECUTABLE}; the runtime links archives of its own and older versions")
  endif()
  set_property(GLOBAL PROPERTY KPACK_COMMAND "${KPACK_EXECUTABLE}")
endfunction()

function(_kpack_choose_archs what given result)
  set(archs ${given})
  if(NOT archs)
    set(archs ${KPACK_ARCH})
  endif()
  if(NOT archs)
    kpack_archs_of_project(archs)
  endif()
  if(NOT archs)
    message(FATAL_ERROR "${what}: ARCH: expected what to build for, got none; give ARCH gfx942 sm_90, or native for this "
                        "machine's GPUs, or set KPACK_ARCH, CMAKE_CUDA_ARCHITECTURES, TORCH_CUDA_ARCH_LIST or GPU_TARGETS")
  endif()
  set(chosen)
  foreach(arch IN LISTS archs)
    if(arch MATCHES "^native(-(sm|gfx))?$")
      _kpack_native_archs("${what}" "${CMAKE_MATCH_2}" found)
      list(APPEND chosen ${found})
    else()
      list(APPEND chosen ${arch})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES chosen)
  set(${result} "${chosen}" PARENT_SCOPE)
endfunction()

# Of the GPUs that the drivers know, which is whom a program asks; of one vendor, or "" for both.
function(_kpack_native_archs what vendor result)
  get_property(command GLOBAL PROPERTY KPACK_COMMAND)
  execute_process(COMMAND ${command} config --native RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE reason)
  string(STRIP "${said}" said)
  string(REPLACE " " ";" found "${said}")
  list(FILTER found INCLUDE REGEX "^${vendor}")
  if(NOT status EQUAL 0 OR NOT found)
    string(STRIP "${reason}" reason)
    message(FATAL_ERROR "${what}: ARCH native: expected a GPU in this machine, got ${said}${reason}; "
                        "give ARCH by name, gfx942 sm_90, to build for another machine")
  endif()
  set(${result} "${found}" PARENT_SCOPE)
endfunction()

function(_kpack_choose_host what given result)
  set(host "${given}")
  if(NOT host)
    set(host "${CMAKE_SYSTEM_PROCESSOR}")
  endif()
  if(host MATCHES "^(x86_64|AMD64|amd64)$")
    set(host x86_64)
  elseif(host MATCHES "^(aarch64|arm64|ARM64)$")
    set(host aarch64)
  else()
    message(FATAL_ERROR "${what}: HOST: expected x86_64 or aarch64, got ${host}")
  endif()
  set(${result} ${host} PARENT_SCOPE)
endfunction()

# An empty source of a language that the project has.
function(_kpack_write_stub what folder result)
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  foreach(language IN ITEMS CXX:cc C:c)
    string(REPLACE ":" ";" language ${language})
    list(GET language 1 suffix)
    list(GET language 0 language)
    if(language IN_LIST languages)
      file(CONFIGURE OUTPUT ${folder}/stub.${suffix} CONTENT "typedef int kpack_replaces_this_archive;\n")
      set(${result} ${folder}/stub.${suffix} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "${what}: expected a project with C or CXX among its languages, got ${languages}")
endfunction()
