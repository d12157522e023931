/* The launches of launch_overhead.cc that a C program makes. */
#ifndef KPACK_BENCHMARKS_LAUNCH_OVERHEAD_C_H
#define KPACK_BENCHMARKS_LAUNCH_OVERHEAD_C_H

#include <kpack/kpack.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct c_values {
  double *out;
  const float *const *p;
  const int32_t *i;
  const int64_t *l;
  const float *f;
} c_values;

/* With 0, 7, 16 and 58 arguments. */
kpk_status launch_c_0(const kpk_kernel *kernel, kpk_stream stream, const c_values *values);
kpk_status launch_c_7(const kpk_kernel *kernel, kpk_stream stream, const c_values *values);
kpk_status launch_c_16(const kpk_kernel *kernel, kpk_stream stream, const c_values *values);
kpk_status launch_c_58(const kpk_kernel *kernel, kpk_stream stream, const c_values *values);

#ifdef __cplusplus
}
#endif
#endif
