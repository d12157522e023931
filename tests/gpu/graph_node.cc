// A launch as a graph's node, and its update: kpk_node as CUDA_KERNEL_NODE_PARAMS. Prints what failed, if anything.

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <kpack/kpack.hpp>

KPACK_KERNEL(tests, scale);

namespace {

// CUDA_KERNEL_NODE_PARAMS_v2 of cuda.h.
struct NodeParams {
  void *function;
  unsigned grid[3], block[3], shared_bytes;
  void **kernel_params;
  void **extra;
  void *kernel;
  void *context;
};

void *g_driver;

template <class... A>
void call(const char *name, A... arguments) {
  const auto function = reinterpret_cast<int (*)(A...)>(dlsym(g_driver, name));
  const int code = function == nullptr ? -1 : function(arguments...);
  if (code == 0) return;
  std::printf("%s: %d\n", name, code);
  std::exit(1);
}

void check(kpack::Status status) {
  if (status) return;
  std::printf("%s: %s\n", status.name(), status.message());
  std::exit(1);
}

// One launch: what of it has to live until the node is made of it.
struct Launch {
  alignas(128) unsigned char params[256];
  size_t bytes = sizeof params;
  kpk_node node = {};
  void *extra[5] = {reinterpret_cast<void *>(uintptr_t{1}), params, reinterpret_cast<void *>(uintptr_t{2}),
                    &bytes, nullptr};
  NodeParams native = {};

  Launch(const kpack::Bound &pinned, float *out, const float *in, float factor, int n) {
    check(pinned.node(params, sizeof params, &node, out, in, factor, 2, n));
    bytes = node.param_bytes;
    native = {node.function,
              {node.grid[0], node.grid[1], node.grid[2]},
              {node.block[0], node.block[1], node.block[2]},
              node.shared_bytes,
              nullptr,
              extra,
              nullptr,
              nullptr};
  }
};

constexpr int kMost = 4096;

// out[i] = in[2 * i] * factor, and nothing behind n.
void expect(uint64_t out, float factor, int n) {
  static float result[kMost];
  call("cuMemcpyDtoH_v2", static_cast<void *>(result), out, sizeof result);
  for (int i = 0; i < kMost; ++i) {
    const float expected = i < n ? 3.0F * factor : 0.0F;
    if (result[i] == expected) continue;
    std::printf("out[%d]: expected %g, got %g\n", i, static_cast<double>(expected),
                static_cast<double>(result[i]));
    std::exit(1);
  }
}

}  // namespace

int main() {
  g_driver = dlopen("libcuda.so.1", RTLD_NOW);
  void *context = nullptr, *stream = nullptr, *graph = nullptr, *node = nullptr, *executable = nullptr;
  uint64_t out = 0, in = 0;
  call("cuInit", 0U);
  call("cuDevicePrimaryCtxRetain", &context, 0);
  call("cuCtxSetCurrent", context);
  call("cuStreamCreate", &stream, 1U);
  call("cuMemAlloc_v2", &out, sizeof(float) * kMost);
  call("cuMemAlloc_v2", &in, 2 * sizeof(float) * kMost);
  call("cuMemsetD32_v2", in, 0x40400000U /* 3.0f */, size_t{2 * kMost});

  auto *to = reinterpret_cast<float *>(out);
  auto *from = reinterpret_cast<const float *>(in);
  const kpack::Bound pinned = tests::scale.pin(kpack::cuda_device(0), to, from, 1.5F, 2, 1000);
  check(pinned.status());
  int blocks = 0, clusters = 0;
  check(pinned.occupancy(&blocks, &clusters));
  if (blocks < 1) std::printf("occupancy: expected 1 or more, got %d\n", blocks);

  Launch first(pinned, to, from, 1.5F, 1000), second(pinned, to, from, 4.0F, 3000);
  call("cuGraphCreate", &graph, 0U);
  call("cuGraphAddKernelNode_v2", &node, graph, static_cast<void *>(nullptr), size_t{0}, &first.native);
  call("cuGraphInstantiateWithFlags", &executable, graph, 0ULL);
  for (const bool updated : {false, true}) {
    call("cuMemsetD32_v2", out, 0U, size_t{kMost});
    if (updated) call("cuGraphExecKernelNodeSetParams_v2", executable, node, &second.native);
    call("cuGraphLaunch", executable, stream);
    call("cuStreamSynchronize", stream);
    updated ? expect(out, 4.0F, 3000) : expect(out, 1.5F, 1000);
  }
  return blocks < 1;
}
