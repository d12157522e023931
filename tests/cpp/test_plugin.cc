// Plugins that come and go: `test_plugin PLUGIN LATE`. What drivers still point into stays mapped, until it is
// unloaded.

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

#include "check.h"
#include "fake.h"

namespace {

fake::Fake cuda;
const char *plugin_path, *late_path;

bool is_mapped() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(plugin_path) != std::string::npos) return true;
  }
  return false;
}

void *open_plugin() {
  void *plugin = dlopen(plugin_path, RTLD_NOW | RTLD_GLOBAL);
  if (plugin == nullptr) check::fail(__FILE__, __LINE__, dlerror());
  return plugin;
}
int call(void *plugin, const char *name) { return reinterpret_cast<int (*)()>(dlsym(plugin, name))(); }

void finish() {
  for (uint64_t i = 0; i < cuda.violations(); ++i) std::printf("  violation: %s\n", cuda.violation(i));
  EXPECT_EQ(cuda.violations(), uint64_t{0});
  EXPECT_EQ(cuda.live("module"), uint64_t{0});
  cuda.reset();
}

TEST(a_plugin_that_has_loaded_nothing_goes) {
  void *plugin = open_plugin();
  CHECK(is_mapped());
  dlclose(plugin);
  CHECK(!is_mapped());
}

TEST(a_plugin_whose_images_are_loaded_stays) {
  void *plugin = open_plugin();
  EXPECT_EQ(call(plugin, "plugin_copy"), 0);
  dlclose(plugin);
  CHECK(is_mapped());
  plugin = open_plugin();
  EXPECT_EQ(call(plugin, "plugin_copy"), 0);  // which checks that the image is as it was
  EXPECT_EQ(cuda.calls("cuModuleLoadData"), uint64_t{1});
  EXPECT_EQ(call(plugin, "plugin_unload"), 0);
  dlclose(plugin);
  CHECK(!is_mapped());
  finish();
}

TEST(a_plugin_stays_for_each_kernel) {
  void *plugin = open_plugin();
  EXPECT_EQ(call(plugin, "plugin_copy"), 0);
  EXPECT_EQ(call(plugin, "plugin_fill"), 0);
  EXPECT_EQ(call(plugin, "plugin_unload_copy"), 0);
  dlclose(plugin);
  CHECK(is_mapped());
  plugin = open_plugin();
  EXPECT_EQ(call(plugin, "plugin_unload"), 0);
  dlclose(plugin);
  CHECK(!is_mapped());
  finish();
}

TEST(what_the_driver_refuses_to_unload_stays) {
  void *plugin = open_plugin();
  EXPECT_EQ(call(plugin, "plugin_copy"), 0);
  cuda.fail("cuModuleUnload", 2, 0, 1);
  CHECK(call(plugin, "plugin_unload") != 0);
  dlclose(plugin);
  CHECK(is_mapped());
}

// Both threads want the same image: the one that loads it must not wait for the dynamic loader as long as the
// other, which has its lock, waits for the image.
TEST(a_constructor_may_launch_what_another_thread_loads) {
  void *plugin = open_plugin();
  EXPECT_EQ(call(plugin, "plugin_unload"), 0);
  cuda.reset();
  cuda.delay_us("cuModuleLoadData", 100000);
  std::thread loading([plugin] { call(plugin, "plugin_copy"); });
  while (cuda.calls("cuModuleLoadData") == 0) std::this_thread::yield();
  void *late = dlopen(late_path, RTLD_NOW);
  CHECK(late != nullptr);
  loading.join();
  EXPECT_EQ(cuda.launches(), uint64_t{2});
  EXPECT_EQ(cuda.calls("cuModuleLoadData"), uint64_t{1});
  dlclose(late);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  plugin_path = argv[1];
  late_path = argv[2];
  setenv("FAKE_HIP", "none", 1);
  cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure("sm_86;driver=12080");
  return check::run();
}
