// Three copies of the runtime and three packs called tk in one process: this program's and two plugins', of which one has
// another kernel of the same name. Each launches its own, and none exports anything but its pack.
// Usage: test_copies <folder of the plugins> <local or global: how they are opened> [filter].

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <string>

#include "check.h"
#include "fake.h"

KPACK_KERNEL(tk, scale);

namespace {

fake::Fake cuda;
std::string folder;
int flags;

struct Plugin {
  void *library;
  int (*launch)(int n);
  const char *(*message)();
  int (*unload)();
};

template <class F>
void resolve(void *library, const char *name, F *function) {
  *function = reinterpret_cast<F>(dlsym(library, name));
  if (*function == nullptr)
    check::fail(__FILE__, __LINE__, std::string("expected it to be exported: ") + name);
}

Plugin open(const char *name) {
  Plugin plugin = {};
  plugin.library = dlopen((folder + "/lib" + name + ".so").c_str(), flags);
  if (plugin.library == nullptr) check::fail(__FILE__, __LINE__, dlerror());
  resolve(plugin.library, "plugin_launch", &plugin.launch);
  resolve(plugin.library, "plugin_message", &plugin.message);
  resolve(plugin.library, "plugin_unload", &plugin.unload);
  return plugin;
}

std::string last_function() {
  fake_launch launch = {};
  CHECK(cuda.launches() != 0 && cuda.launch(cuda.launches() - 1, &launch) != 0);
  return launch.function;
}

TEST(each_launches_its_own_kernel_of_the_same_name) {
  const Plugin one = open("copy_one"), other = open("copy_other");
  cuda.reset();
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_EQ(other.launch(1000), 0);
    EXPECT_EQ(last_function(), std::string("scale_w4"));
    EXPECT_EQ(one.launch(1000), 0);
    EXPECT_EQ(last_function(), std::string("scale_fp32_BLOCK128_w1_a16"));
    float *out = reinterpret_cast<float *>(0x1000);
    EXPECT_EQ(int{tk::scale(kpack::cuda_stream(nullptr), out, out, 2.0, 7, 1000).code()}, 0);
    EXPECT_EQ(last_function(), std::string("scale_fp32_BLOCK128_w1_a16"));
  }
  // Nothing is shared, not even what is the same.
  EXPECT_EQ(cuda.loads(0), uint64_t{3});
  EXPECT_EQ(cuda.violations(), uint64_t{0});
}

TEST(unloading_one_leaves_the_others_alone) {
  const Plugin one = open("copy_one"), other = open("copy_other");
  CHECK(one.launch(1000) == 0 && other.launch(1000) == 0);
  cuda.reset();
  EXPECT_EQ(one.unload(), 0);
  EXPECT_EQ(other.launch(1000), 0);
  EXPECT_EQ(cuda.loads(0), uint64_t{0});
  EXPECT_EQ(one.launch(1000), 0);
  EXPECT_EQ(cuda.loads(0), uint64_t{1});
}

TEST(messages_are_of_the_copy_that_failed) {
  const Plugin one = open("copy_one"), other = open("copy_other");
  CHECK(one.launch(1 << 20) != 0);  // its guard, which the other has not
  CHECK(std::strstr(one.message(), "scale") != nullptr);
  EXPECT_EQ(std::string(other.message()), std::string());
}

TEST(nothing_is_exported_but_the_pack) {
  const Plugin one = open("copy_one"), other = open("copy_other");
  const void *entry_of_one = dlsym(one.library, "kpk_entry_tk");
  const void *entry_of_other = dlsym(other.library, "kpk_entry_tk");
  CHECK(entry_of_one != nullptr && entry_of_other != nullptr && entry_of_one != entry_of_other);
  for (const char *name : {"kpk_launch", "kpk_message", "kpk_pack_of", "kpack_pack_tk",
                           "kpack_kernel_tk_scale", "__start_kpack_packs", "__stop_kpack_packs"}) {
    for (void *library : {one.library, other.library, RTLD_DEFAULT}) {
      if (dlsym(library, name) != nullptr) check::fail(__FILE__, __LINE__, std::string("exported: ") + name);
    }
  }
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  folder = argv[1];
  flags = RTLD_NOW | (std::strcmp(argv[2], "global") == 0 ? RTLD_GLOBAL : RTLD_LOCAL);
  cuda = fake::open("libcuda.so.1", "cuda");
  cuda.entry<int(unsigned)>("cuInit")(0);
  void *context = nullptr;
  cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, 0);
  cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
  return check::run(argc > 3 ? argv[3] : "");
}
