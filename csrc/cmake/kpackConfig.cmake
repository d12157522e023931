# find_package(kpack CONFIG), from a wheel (-Dkpack_DIR="$(kpack config --cmakedir)") or an install prefix: the targets
# kpack::runtime and kpack::headers, and kpack_add_pack().
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include("${CMAKE_CURRENT_LIST_DIR}/kpackTargets.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/kpackAddPack.cmake")
