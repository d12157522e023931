// AMD: launching. A plain launch takes the parameter block ready made.

#include "hip_launch.h"

#include "hip_api.h"
#include "message.h"

namespace kpk::hip {
namespace {

constexpr int kFirstWithClusters = 7 * 10000000;  // hipRuntimeGetVersion: ROCm 7.0

// A launch call, and what became of it.
struct Attempt {
  hipError code;
  const char *call;
};

Attempt launch_plain(const LaunchRequest &request) {
  const Plan &plan = *request.plan;
  const uint32_t *grid = request.grid;
  size_t bytes = plan.param_bytes;
  // HIP_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE, _END
  void *extra[] = {reinterpret_cast<void *>(uintptr_t{1}), request.params,
                   reinterpret_cast<void *>(uintptr_t{2}), &bytes, reinterpret_cast<void *>(uintptr_t{3})};
  return {g_api.launch_kernel(plan.function, grid[0], grid[1], grid[2], plan.block, 1, 1, plan.shared_bytes,
                              request.stream, nullptr, extra),
          "hipModuleLaunchKernel"};
}

uint32_t cluster_size(const kpk_abi_image &image) {
  return image.cluster[0] * image.cluster[1] * image.cluster[2];
}

Attempt launch_cluster(const LaunchRequest &request, void **pointers) {
  const Plan &plan = *request.plan;
  const uint32_t *grid = request.grid;
  LaunchAttribute attributes[2] = {};
  attributes[0].id = kClusterDimension;
  for (int axis = 0; axis < 3; ++axis) attributes[0].cluster[axis] = plan.image->cluster[axis];
  attributes[1].id = kCooperative;
  attributes[1].value = (plan.image->flags & KPK_IMAGE_COOPERATIVE) != 0 ? 1 : 0;
  const LaunchConfig config = {
      {grid[0], grid[1], grid[2]}, {plan.block, 1, 1}, plan.shared_bytes, request.stream, attributes, 2};
  return {g_api.launch_kernel_ex(&config, plan.function, pointers, nullptr), "hipDrvLaunchKernelEx"};
}

// A cluster, or a cooperative grid. They take a pointer to each parameter, in the order of the image's note:
// a cooperative launch takes no ready-made block, and for clusters this is the way that Triton proves.
[[gnu::noinline]] Attempt launch_pointers(const LaunchRequest &request) {
  const Plan &plan = *request.plan;
  const Table<kpk_abi_slot> layout(plan.image->layout);
  const size_t count = layout.size() + size_t{1};
  auto **pointers = static_cast<void **>(__builtin_alloca(count * sizeof(void *)));
  pointers[layout.size()] = nullptr;
  for (uint32_t i = 0; i < layout.size(); ++i) pointers[i] = request.params + layout[i].offset;
  if (cluster_size(*plan.image) > 1) return launch_cluster(request, pointers);
  const uint32_t *grid = request.grid;
  return {g_api.launch_cooperative(plan.function, grid[0], grid[1], grid[2], plan.block, 1, 1,
                                   plan.shared_bytes, request.stream, pointers),
          "hipModuleLaunchCooperativeKernel"};
}

bool takes_pointers(const kpk_abi_image &image) {
  return cluster_size(image) > 1 || (image.flags & KPK_IMAGE_COOPERATIVE) != 0;
}

Attempt launch_here(const LaunchRequest &request) {
  const bool pointers = request.plan->special && takes_pointers(*request.plan->image);
  return pointers ? launch_pointers(request) : launch_plain(request);
}

// Recent HIP refuses a stream of another device than the current one. Asking before each launch would cost
// every caller a driver query, so the refusal is the question.
Attempt launch_there(const LaunchRequest &request, const Attempt &refused) {
  int before = 0;
  const int there = request.plan->device->ordinal;
  if (g_api.get_device(&before) != kSuccess || before == there) return refused;
  g_api.get_last_error();  // the refusal is answered here: nobody else is to find it
  if (const hipError code = g_api.set_device(there)) return {code, "hipSetDevice"};
  const Attempt attempt = launch_here(request);
  g_api.set_device(before);
  return attempt;
}

}  // namespace

kpk_status check_entries(const kpk_abi_image &image) {
  const bool clusters = cluster_size(image) > 1;
  const bool cooperative = !clusters && (image.flags & KPK_IMAGE_COOPERATIVE) != 0;
  const char *missing = nullptr;
  if (clusters && (g_api.launch_kernel_ex == nullptr || g_version < kFirstWithClusters))
    missing = "clusters, which HIP launches from ROCm 7.0 on";
  if (cooperative && g_api.launch_cooperative == nullptr)
    missing = "a cooperative grid, which HIP launches from ROCm 5.5 on";
  if (missing == nullptr) return KPK_OK;
  return fail(KPK_ERROR_LIMIT, "%s: needs %s, this one is of HIP %d.%d", text(image.symbol), missing,
              g_version / 10000000, g_version / 100000 % 100);
}

kpk_status launch(const LaunchRequest &request) {
  Attempt attempt = launch_here(request);
  if (attempt.code == kInvalidHandle) attempt = launch_there(request, attempt);
  if (attempt.code == kSuccess) return KPK_OK;
  return failed(text(request.plan->image->symbol), attempt.call, attempt.code);
}

// HIP answers for the current device.
kpk_status occupancy(const Device &device, const Plan &plan, const char *symbol, int *blocks, int *clusters) {
  *blocks = *clusters = 0;
  if (g_api.occupancy == nullptr) {
    return fail(KPK_ERROR_UNSUPPORTED, "%s: this HIP does not say the occupancy", symbol);
  }
  int before = 0;
  if (const hipError code = g_api.get_device(&before)) return failed(symbol, "hipGetDevice", code);
  if (const hipError code = g_api.set_device(device.ordinal)) return failed(symbol, "hipSetDevice", code);
  const hipError code =
      g_api.occupancy(blocks, plan.function, static_cast<int>(plan.block), plan.shared_bytes);
  g_api.set_device(before);
  if (code == kSuccess) return KPK_OK;
  return failed(symbol, "hipModuleOccupancyMaxActiveBlocksPerMultiprocessor", code);
}

}  // namespace kpk::hip
