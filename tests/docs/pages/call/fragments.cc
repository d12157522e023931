// The fragments of docs/call.md in a program, which runs dry.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <kpack/kpack.hpp>

#include "a-launch-3.inc"

KPACK_KERNEL(tk, softmax);
KPACK_KERNEL(tk, twice);

namespace {

// Addresses that nothing follows in a dry run.
float *const out = reinterpret_cast<float *>(0x10000);
const float *const in = reinterpret_cast<const float *>(0x20000);
void *const untyped = reinterpret_cast<void *>(0x30000);
const kpack::Stream stream = nullptr;
const kpk_device device = kpack::cuda_device(0);
constexpr int64_t in_stride = 1024, out_stride = 1024, s = 1024, rows = 64, columns = 1024, row_stride = 1024;
constexpr int n_cols = 1000, n_rows = 64, n = 1000;

void expect(bool good, const char *what) {
  if (good) return;
  std::printf("%s: %s\n", what, kpk_message());
  std::exit(1);
}

void launches() {
#include "a-launch.inc"
  expect(status.dry(), "a launch");
#include "a-launch-2.inc"
  expect(status.dry(), "a launch of pointers without a type");
  expect(kpack::type_of<MyHalf>::value == KPK_FP16, "a half type");
#include "without-a-gpu.inc"
  expect(status.dry(), "a dry run");
}

void descriptors() {
  expect(kpack::use_dry_driver("sm_90").ok(), "sm_90");
#include "tensor-descriptors.inc"
  expect(status.dry(), "descriptors");
}

void handles() {
  alignas(128) unsigned char params[4096];
#include "handles.inc"
  expect(bound.status().ok() && pinned.status().ok(), "handles");
  expect(function.param_bytes != 0 && function.param_bytes <= sizeof params, "a pinned handle's function");
  expect(node.grid[0] == rows && node.params == params, "a node");
}

void loading() {
  kpack::Status status;
#include "load-ahead-unload.inc"
  expect(status.ok(), "unload");
#include "scratch-memory.inc"
}

void questions() {
#include "what-would-run.inc"
  expect(runs && text.find("runs fp32.BLOCK1024.w4") != std::string::npos, "explain");
}

void callbacks() {
#include "watch.inc"
  expect(tk::softmax(stream, out, in, s, s, n, n_rows).dry(), "a launch that is watched");
  kpk_set_observer(nullptr, nullptr);
#include "where-no-image-fits.inc"
  expect(kpack::use_dry_driver("sm_80").ok(), "sm_80");
  expect(tk::softmax(stream, out, in, s, s, n, n_rows).ok(), "a fallback");
}

}  // namespace

int main() {
  expect(kpack::use_dry_driver("sm_90").ok(), "sm_90");
  launches();
  descriptors();
  handles();
  loading();
  questions();
  callbacks();
}
