// A plugin with its own copy of the runtime and its own pack tk: test_copies.cc opens two of them.
#include <kpack/kpack.hpp>

#define PLUGIN_API extern "C" __attribute__((visibility("default")))

KPACK_KERNEL(tk, scale);

PLUGIN_API int plugin_launch(int n) {
  float *out = reinterpret_cast<float *>(0x1000), *in = reinterpret_cast<float *>(0x2000);
  return tk::scale(kpack::cuda_stream(nullptr), out, in, 2.0F, 7, n).code();
}
PLUGIN_API const char *plugin_message() { return kpk_message(); }
PLUGIN_API int plugin_unload() { return kpk_unload_pack(kpk_pack_of(kpk_linked_begin())); }
