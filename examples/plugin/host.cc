// A host that has a kernel `effect` in a pack `fx`, and opens a plugin twice that has another one of the same names.
// Without a GPU it has nothing to show: `host: no GPU`, and exit status 77.

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <kpack/kpack.hpp>
#include <string>
#include <vector>

#include "../quickstart/gpu.h"

KPACK_KERNEL(fx, effect);

namespace {

constexpr size_t kCount = 1000;

[[noreturn]] void fail(const std::string &message) {
  std::fprintf(stderr, "host: %s\n", message.c_str());
  std::exit(1);
}

struct Plugin {
  void *library;
  int (*effect)(float *out, const float *x, int n);
  const char *(*message)();
  int (*unload)();
};

template <class Function>
void bind(void *library, const char *name, Function *out) {
  *out = reinterpret_cast<Function>(dlsym(library, name));
  if (*out == nullptr) fail(dlerror());
}

Plugin open_plugin(const char *path) {
  Plugin out = {dlopen(path, RTLD_NOW | RTLD_LOCAL), nullptr, nullptr, nullptr};
  if (out.library == nullptr) fail(dlerror());
  bind(out.library, "plugin_effect", &out.effect);
  bind(out.library, "plugin_message", &out.message);
  bind(out.library, "plugin_unload", &out.unload);
  return out;
}

bool is_mapped(const std::string &file) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(file) != std::string::npos) return true;
  }
  return false;
}

// Numbers on the device: x = 0, 1, 2, ...
struct Buffers {
  static constexpr size_t kBytes = kCount * sizeof(float);
  Gpu gpu{kpk_device_count(KPK_VENDOR_CUDA) == 0};
  float *x = gpu.allocate(kBytes), *out = gpu.allocate(kBytes);

  Buffers() {
    std::vector<float> values(kCount);
    for (size_t i = 0; i < kCount; ++i) values[i] = static_cast<float>(i);
    gpu.to_device(x, values.data(), kBytes);
  }
  // What a launch has left; it is overwritten, so that the next one has to write it again.
  std::vector<float> take() {
    std::vector<float> values(kCount), none(kCount, -1.0f);
    gpu.to_host(values.data(), out, kBytes);
    gpu.to_device(out, none.data(), kBytes);
    return values;
  }
};

void expect(const char *whose, const std::vector<float> &values, float factor, float offset) {
  for (size_t i = 0; i < kCount; ++i) {
    const float expected = factor * static_cast<float>(i) + offset, got = values[i];
    if (got != expected) {
      fail(std::string(whose) + ": expected " + std::to_string(expected) + ", got " + std::to_string(got));
    }
  }
  std::printf("%s: f(0) = %g, f(999) = %g\n", whose, values.front(), values.back());
}

void run_own(Buffers &buffers) {
  const kpack::Status status = fx::effect(nullptr, buffers.out, buffers.x, kCount);
  if (!status) fail(status.message());
  expect("the host's effect", buffers.take(), 2, 0);
}

void run(const Plugin &plugin, Buffers &buffers) {
  if (plugin.effect(buffers.out, buffers.x, kCount) != 0) fail(plugin.message());
  expect("the plugin's effect", buffers.take(), 1, 100);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 2) fail("usage: host PLUGIN.so");
  if (kpk_device_count(KPK_VENDOR_ANY) == 0) {
    std::printf("host: no GPU\n");
    return 77;
  }
  const std::string path = argv[1], file = path.substr(path.rfind('/') + 1);
  Buffers buffers;
  run_own(buffers);
  for (int time = 1; time <= 2; ++time) {
    const Plugin plugin = open_plugin(argv[1]);
    run(plugin, buffers);
    run_own(buffers);
    if (plugin.unload() != 0) fail(plugin.message());
    dlclose(plugin.library);
    std::printf("unloaded and closed: %s\n", is_mapped(file) ? "still mapped" : "gone");
  }
  // Closed without unloading: it stays, as the driver has its images.
  const Plugin plugin = open_plugin(argv[1]);
  run(plugin, buffers);
  dlclose(plugin.library);
  std::printf("closed, but not unloaded: %s\n", is_mapped(file) ? "still mapped" : "gone");
  run_own(buffers);
  return 0;
}
