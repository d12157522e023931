# find_package(kpack CONFIG PATHS "$(kpack config --cmakedir)"): the target kpack::runtime, with headers and what
# it links. Found by its own place in the Python package: nothing is written in at install time.
include(CMakeFindDependencyMacro)
find_dependency(Threads)

get_filename_component(_kpack_root "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
if(NOT TARGET kpack::runtime)
  add_library(kpack::runtime STATIC IMPORTED)
  set_target_properties(kpack::runtime PROPERTIES
    IMPORTED_LOCATION "${_kpack_root}/lib/libkpack_runtime.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_kpack_root}/include"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS}")
endif()
unset(_kpack_root)
