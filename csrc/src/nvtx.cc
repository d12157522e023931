// The binary interface of NVTX 3 between a program and a tool, as nvtxTypes.h declares it.

#include "nvtx.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "library.h"

namespace kpk {
namespace {

constexpr uint32_t kCallbacks = 1, kVersionInfo = 3;  // NVTX_ETID_...: tables that a tool asks for
constexpr uint32_t kVersion = 3;                      // NVTX_VERSION

constexpr uint32_t kCore = 1;                       // NVTX_CB_MODULE_CORE
constexpr uint32_t kRangePush = 9, kRangePop = 11;  // NVTX_CBID_CORE_RangePushA, _RangePop

// The slots of each module, NVTX_CBID_..._SIZE: invalid, core, CUDA, OpenCL, CUDA runtime, core2 (domains), sync. A
// tool may want to fill in all of them; what is in those of core's ranges is called.
constexpr uint32_t kSlots[] = {0, 16, 9, 15, 7, 16, 7};
constexpr uint32_t kModules = sizeof kSlots / sizeof *kSlots;
constexpr uint32_t kMostSlots = 16;

using Slot = void (*)();
Slot g_slots[kModules][kMostSlots];
Slot *g_tables[kModules][kMostSlots + 1];  // a slot's address by its number; null before and behind them

int function_table(int module, Slot ***table, unsigned *size) {
  const auto index = static_cast<uint32_t>(module);
  if (index == 0 || index >= kModules) return 0;
  if (table != nullptr) *table = g_tables[index];
  if (size != nullptr) *size = kSlots[index];
  return 1;
}

struct Callbacks {  // NvtxExportTableCallbacks
  size_t size;
  int (*function_table)(int module, Slot ***table, unsigned *size);
};
constexpr Callbacks g_callbacks = {sizeof(Callbacks), function_table};

void set_tool_version(uint32_t) {}

struct VersionInfo {  // NvtxExportTableVersionInfo
  size_t size;
  uint32_t version;
  uint32_t reserved;
  void (*set_tool_version)(uint32_t version);
};
constexpr VersionInfo g_version_info = {sizeof(VersionInfo), kVersion, 0, set_tool_version};

const void *export_table(uint32_t id) {
  if (id == kCallbacks) return &g_callbacks;
  return id == kVersionInfo ? &g_version_info : nullptr;
}

void make_tables() {
  for (uint32_t module = 1; module < kModules; ++module) {
    for (uint32_t slot = 1; slot < kSlots[module]; ++slot) {
      g_tables[module][slot] = &g_slots[module][slot];
    }
  }
}

// A tool may fill a slot, or empty it, while threads launch.
template <class Function>
Function slot(uint32_t number) {
  return reinterpret_cast<Function>(__atomic_load_n(&g_slots[kCore][number], __ATOMIC_ACQUIRE));
}
using Push = int (*)(const char *name);
using Pop = int (*)();

}  // namespace

bool nvtx_attach(const char **why) {
  *why = nullptr;
  const char *path = std::getenv("NVTX_INJECTION64_PATH");
  if (path == nullptr || *path == '\0') return false;
  void *library = library_open(path, why);
  if (library == nullptr) return false;
  int (*initialize)(const void *(*)(uint32_t)) = nullptr;
  if (!library_function(library, "InitializeInjectionNvtx2", &initialize)) {
    *why = "it has no InitializeInjectionNvtx2";
    return false;
  }
  make_tables();
  if (initialize(export_table) == 0) {
    *why = "it does not initialize";
    return false;
  }
  if (slot<Push>(kRangePush) != nullptr && slot<Pop>(kRangePop) != nullptr) return true;
  *why = "it takes no ranges";
  return false;
}

void nvtx_push(const char *name) {
  if (const Push push = slot<Push>(kRangePush)) push(name);
}

void nvtx_pop() {
  if (const Pop pop = slot<Pop>(kRangePop)) pop();
}

}  // namespace kpk
