// NVIDIA: launching. It goes through the CUfunction of the context, which the driver launches faster than the
// CUkernel of a library, with the parameter block ready made, and through cuLaunchKernelEx where it is: the
// fastest of the ways there are (benchmarks/README.md).

#include "cuda_api.h"
#include "cuda_context.h"
#include "cuda_load.h"
#include "cuda_scratch.h"
#include "cuda_tensor.h"
#include "message.h"

namespace kpk::cuda {
namespace {

// CUlaunchAttribute: 72 bytes.
struct LaunchAttribute {
  int id;
  union {
    alignas(8) char bytes[64];
    unsigned cluster[3];
    int value;
  };
};
static_assert(sizeof(LaunchAttribute) == 72, "CUlaunchAttribute of cuda.h");
constexpr int kCooperative = 2, kClusterDimension = 4, kClusterSpread = 5, kStreamSerialization = 6;
constexpr int kSpread = 1;  // CU_CLUSTER_SCHEDULING_POLICY_SPREAD, as Triton launches clusters

// A launch failed. A function is no handle in a stream of another context, nor when its own is gone. Asking before
// each launch would cost every caller a driver query, so the refusal is the question. It does not invalidate a
// capture on the stream.
[[gnu::cold]] kpk_status refused(const LaunchRequest &request, const char *call, CUresult code) {
  const kpk_status status = failed(text(request.plan->image->symbol), call, code);
  const bool elsewhere = code == kInvalidHandle || code == kInvalidContext || code == kContextDestroyed;
  return elsewhere ? kElsewhere : status;
}

// Fills what the image asks for beyond a plain launch; how many.
unsigned fill_attributes(const kpk_abi_image &image, LaunchAttribute *out) {
  unsigned count = 0;
  if (image.cluster[0] * image.cluster[1] * image.cluster[2] > 1) {
    LaunchAttribute &dimension = out[count++];
    dimension.id = kClusterDimension;
    for (int axis = 0; axis < 3; ++axis) dimension.cluster[axis] = image.cluster[axis];
    out[count].id = kClusterSpread;
    out[count++].value = kSpread;
  }
  if ((image.flags & KPK_IMAGE_COOPERATIVE) != 0) {
    out[count].id = kCooperative;
    out[count++].value = 1;
  }
  if ((image.flags & KPK_IMAGE_PDL) != 0) {
    out[count].id = kStreamSerialization;
    out[count++].value = 1;
  }
  return count;
}

// Apart, so that a plain launch does not make room for attributes.
[[gnu::noinline]] CUresult launch_special(const kpk_abi_image &image, LaunchConfig *config, void *function,
                                          void **extra) {
  LaunchAttribute attributes[4] = {};
  config->attributes = attributes;
  config->attribute_count = fill_attributes(image, attributes);
  return g_api.launch_kernel_ex(config, function, nullptr, extra);
}

kpk_status launch(const LaunchRequest &request) {
  const Plan &plan = *request.plan;
  size_t bytes = plan.param_bytes;
  // CU_LAUNCH_PARAM_BUFFER_POINTER, _BUFFER_SIZE, _END
  void *extra[] = {reinterpret_cast<void *>(uintptr_t{1}), request.params,
                   reinterpret_cast<void *>(uintptr_t{2}), &bytes, nullptr};
  const uint32_t *grid = request.grid;
  if (g_api.launch_kernel_ex != nullptr) {
    LaunchConfig config = {
        {grid[0], grid[1], grid[2]}, {plan.block, 1, 1}, plan.shared_bytes, request.stream, nullptr, 0};
    const CUresult code = plan.special ? launch_special(*plan.image, &config, plan.function, extra)
                                       : g_api.launch_kernel_ex(&config, plan.function, nullptr, extra);
    return code == kSuccess ? KPK_OK : refused(request, "cuLaunchKernelEx", code);
  }
  const CUresult code = g_api.launch_kernel(plan.function, grid[0], grid[1], grid[2], plan.block, 1, 1,
                                            plan.shared_bytes, request.stream, nullptr, extra);
  return code == kSuccess ? KPK_OK : refused(request, "cuLaunchKernel", code);
}

kpk_status skip(const Device &, const char *) { return KPK_OK; }

kpk_status occupancy(const Device &, const Plan &plan, const char *symbol, int *blocks, int *clusters) {
  *blocks = *clusters = 0;
  if (g_api.occupancy_blocks == nullptr) {
    return fail(KPK_ERROR_UNSUPPORTED, "%s: this driver does not say the occupancy", symbol);
  }
  const CUresult code =
      g_api.occupancy_blocks(blocks, plan.function, static_cast<int>(plan.block), plan.shared_bytes);
  if (code != kSuccess) return failed(symbol, "cuOccupancyMaxActiveBlocksPerMultiprocessor", code);
  return clusters_at_once(plan, symbol, clusters);
}

}  // namespace

kpk_status clusters_at_once(const Plan &plan, const char *symbol, int *clusters) {
  const kpk_abi_image &image = *plan.image;
  const uint32_t *cluster = image.cluster;
  if (cluster[0] * cluster[1] * cluster[2] <= 1 || g_api.occupancy_clusters == nullptr) return KPK_OK;
  LaunchAttribute attributes[4] = {};
  const LaunchConfig config = {
      {cluster[0], cluster[1], cluster[2]}, {plan.block, 1, 1}, plan.shared_bytes, nullptr, attributes,
      fill_attributes(image, attributes)};
  const CUresult code = g_api.occupancy_clusters(clusters, plan.function, &config);
  return code == kSuccess ? KPK_OK : failed(symbol, "cuOccupancyMaxActiveClusters", code);
}

const Driver kDriver = {"CUDA",  enter,     leave,  asks,     here,      place, context_of,
                        load,    unload,    launch, allocate, give_back, skip,  zero,
                        reserve, occupancy, encode, accepts,  &kBench};

}  // namespace kpk::cuda
