/* A Triton kernel in a C program: no C++, no Python, no GPU SDK. Without a GPU the dry driver shows what would be
 * launched. */
#include <kpack/kpack.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../quickstart/gpu.h"

/* The linker symbol of kernel `axpy` in libvec.a: without it this program does not link. */
extern const kpk_kernel kpack_kernel_vec_axpy __attribute__((visibility("hidden")));

enum { N = 1000000 };

/* out = a * x + y, on the default stream: the arguments in the order of the Triton function. */
static kpk_status axpy(float *out, const float *x, const float *y, float a, int32_t n) {
  const kpk_stream stream = {NULL, KPK_VENDOR_ANY, 0};
  kpk_call call;
  kpk_call_begin(&call);
  kpk_pass_pointer(&call, out, KPK_FP32);
  kpk_pass_const_pointer(&call, x, KPK_FP32);
  kpk_pass_const_pointer(&call, y, KPK_FP32);
  kpk_pass_fp32(&call, a);
  kpk_pass_i32(&call, n);
  return kpk_launch_call(&kpack_kernel_vec_axpy, stream, &call);
}

static void check(int code, const char *what) {
  if (code == 0) return;
  fprintf(stderr, "%s: the driver returned %d\n", what, code);
  exit(1);
}

static int show_dry(void) {
  float *memory = (float *)0x7f0000000000;
  const kpk_status status = kpk_use_dry_driver("sm_90", 0);
  if (status != KPK_OK || axpy(memory, memory, memory, 2.0f, N) != KPK_DRY) {
    fprintf(stderr, "%s\n", kpk_message());
    return 1;
  }
  printf("no GPU here: the dry driver shows what would be launched\n\n%s\n", kpk_message());
  return 0;
}

int main(void) {
  const int hip = kpk_device_count(KPK_VENDOR_CUDA) == 0;
  const float a = 2.5f;
  const size_t bytes = N * sizeof(float);
  struct gpu device;
  void *memory[3]; /* out, x, y */
  kpk_status status;
  float *x, *y, *out;
  double worst = 0;
  if (kpk_device_count(KPK_VENDOR_ANY) == 0) return show_dry();

  x = malloc(3 * bytes);
  if (x == NULL) return 1;
  y = x + N, out = y + N;
  for (int i = 0; i < N; ++i) x[i] = (float)i / 1000.0f, y[i] = 1.0f - x[i];
  check(gpu_open(&device, hip), "opening the device");
  for (int i = 0; i < 3; ++i) check(gpu_allocate(&device, &memory[i], bytes), "device memory");
  check(gpu_to_device(&device, memory[1], x, bytes), "copy to the device");
  check(gpu_to_device(&device, memory[2], y, bytes), "copy to the device");

  status = axpy(memory[0], memory[1], memory[2], a, N);
  if (status != KPK_OK) {
    fprintf(stderr, "%s: %s\n", kpk_status_name(status), kpk_message());
    return 1;
  }
  check(gpu_to_host(&device, out, memory[0], bytes), "copy to the host");
  for (int i = 0; i < N; ++i) {
    const double error = fabs((double)out[i] - ((double)a * x[i] + y[i]));
    if (!(error <= worst)) worst = error; /* a NaN, too */
  }
  printf("axpy of %d numbers: %g + %g * %g = %g, largest error %.1e\n", N, y[N - 1], a, x[N - 1], out[N - 1],
         worst);
  for (int i = 0; i < 3; ++i) check(gpu_release(&device, memory[i]), "releasing device memory");
  free(x);
  return worst < 1e-3 ? 0 : 1;
}
