// A plugin with a pack of its own, which happens to be named as the host's: kernel `effect` of pack `fx`. It exports
// three functions, and nothing of kpack.

#include <kpack/kpack.hpp>

KPACK_KERNEL(fx, effect);

#define PLUGIN extern "C" __attribute__((visibility("default")))

// 0, or a kpk_status.
PLUGIN int plugin_effect(float *out, const float *x, int n) { return fx::effect(nullptr, out, x, n).code(); }

PLUGIN const char *plugin_message() { return kpk_message(); }

// Before dlclose: drivers keep pointers into the images, so that what was loaded from them keeps this library mapped.
PLUGIN int plugin_unload() { return kpk_unload_pack(kpk_pack_of(kpk_linked_begin())); }
