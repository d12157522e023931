// A tool that watches NVTX ranges, as Nsight does: the library that NVTX_INJECTION64_PATH names. It follows
// NVIDIA's nvtxTypes.h, attaches to each copy of NVTX that initialises it, and writes down what each calls.
#include "nvtx_tool.h"

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Callbacks {  // NvtxExportTableCallbacks
  size_t size;
  int (*function_table)(int module, void ***table, unsigned *size);
};
struct VersionInfo {  // NvtxExportTableVersionInfo
  size_t size;
  uint32_t version;
  uint32_t reserved;
  void (*set_tool_version)(uint32_t version);
};

std::mutex g_mutex;
std::vector<std::string> g_lines;
unsigned g_copies;
thread_local int t_depth;

void write(const std::string &line) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_lines.push_back(line);
}

int push(const char *name) {
  write("push " + std::string(name));
  return t_depth++;
}

int pop() {
  write(t_depth > 0 ? "pop" : "pop of nothing");
  return --t_depth;
}

// Every slot but the first is there and is still empty.
bool is_complete(const Callbacks &callbacks, int module, unsigned least) {
  void **table = nullptr;
  unsigned size = 0;
  if (callbacks.function_table(module, &table, &size) == 0 || size < least) return false;
  if (table[0] != nullptr || table[size] != nullptr) return false;
  for (unsigned i = 1; i < size; ++i) {
    if (table[i] == nullptr) return false;
  }
  return true;
}

}  // namespace

extern "C" {

#define EXPORT __attribute__((visibility("default")))

EXPORT int InitializeInjectionNvtx2(const void *(*export_table)(uint32_t)) {
  const auto *callbacks = static_cast<const Callbacks *>(export_table(1));
  const auto *version = static_cast<const VersionInfo *>(export_table(3));
  if (callbacks == nullptr || callbacks->size < sizeof(Callbacks)) return 0;
  if (version == nullptr || version->size < sizeof(VersionInfo) || version->version != 3) return 0;
  version->set_tool_version(3);
  if (export_table(0) != nullptr || export_table(99) != nullptr) return 0;
  const unsigned least[] = {0, 16, 9, 15, 7, 16, 7};
  for (int module = 1; module < 7; ++module) {
    if (!is_complete(*callbacks, module, least[module])) return 0;
  }
  if (callbacks->function_table(0, nullptr, nullptr) != 0) return 0;
  if (callbacks->function_table(7, nullptr, nullptr) != 0) return 0;
  void **table = nullptr;
  callbacks->function_table(1, &table, nullptr);
  *static_cast<int (**)(const char *)>(table[9]) = push;
  *static_cast<int (**)()>(table[11]) = pop;
  ++g_copies;
  return 1;
}

EXPORT unsigned nvtx_tool_copies(void) { return g_copies; }

EXPORT unsigned nvtx_tool_count(void) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  return static_cast<unsigned>(g_lines.size());
}

EXPORT const char *nvtx_tool_line(unsigned index) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  return g_lines.at(index).c_str();
}

EXPORT void nvtx_tool_reset(void) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_lines.clear();
}

}  // extern "C"
