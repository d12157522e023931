// A plugin with a pack and a runtime of its own, as programs load and close them. See test_plugin.cc.

#include <kpack/kpack.hpp>

#define PLUGIN_API extern "C" __attribute__((visibility("default")))

KPACK_KERNEL(ld, copy);
KPACK_KERNEL(ld, fill);

PLUGIN_API int plugin_copy() {
  float *out = reinterpret_cast<float *>(0x1000), *in = reinterpret_cast<float *>(0x2000);
  return ld::copy(nullptr, out, in, 100).code();
}
PLUGIN_API int plugin_fill() { return ld::fill(nullptr, reinterpret_cast<int32_t *>(0x1000), 100).code(); }
PLUGIN_API int plugin_unload_copy() { return kpack::Kernel(ld::copy).unload().code(); }
PLUGIN_API int plugin_unload() { return kpk_unload_pack(kpk_pack_of(kpk_linked_begin())); }
