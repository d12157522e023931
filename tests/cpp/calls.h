/* Calls as C puts them together with kpk_call: calls.c, compiled as C99 and, by calls.cc, as C++. */
#ifndef KPACK_TESTS_CALLS_H
#define KPACK_TESTS_CALLS_H

#include <kpack/kpack.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The arguments of the kernel `convertible`. */
typedef struct number_args {
  double *out;
  int i1;
  int8_t i8;
  int16_t i16;
  int32_t i32;
  int64_t i64;
  uint8_t u8;
  uint16_t u16;
  uint32_t u32;
  uint64_t u64;
  float fp32;
  double fp64;
} number_args;

typedef struct calls {
  const char *language;
  /* Each argument through the function for its type, if it is one of that type. */
  void (*fill)(kpk_call *call, const kpk_arg *args, uint32_t count);
  int (*end)(kpk_call *call);
  kpk_status (*launch)(const kpk_kernel *kernel, kpk_stream stream, kpk_call *call);
  kpk_status (*launch_bound)(const kpk_bound *bound, kpk_stream stream, kpk_call *call);
  /* All in one function, as a program has it. */
  kpk_status (*launch_numbers)(const kpk_kernel *kernel, kpk_stream stream, const number_args *given);
  kpk_status (*launch_7)(const kpk_kernel *kernel, kpk_stream stream, double *out, const float *p,
                         const float *q, int32_t i, int32_t j, int64_t l, float f);
} calls;

extern const calls calls_c, calls_cxx;

#ifdef __cplusplus
}
#endif
#endif
