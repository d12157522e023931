// A shared object whose constructor launches: dlopen holds the dynamic loader's lock meanwhile. See test_plugin.cc.

extern "C" int plugin_copy();

namespace {

[[gnu::constructor]] void launch() { plugin_copy(); }

}  // namespace
