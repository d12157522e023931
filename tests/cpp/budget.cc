// What budget.py counts instructions of: launches with 0, 7, 16 and 58 arguments on the fake driver, and tuned ones,
// each way in a function of its own, which callgrind knows by its name: budget_<way>_<kernel>. Usage: budget [launches].

#include "budget.h"

#include <cstdio>
#include <cstdlib>
#include <kpack/kpack.hpp>
#include <vector>

#include "fake.h"
#include "two_keys.h"

KPACK_KERNEL(tk, nothing);
KPACK_KERNEL(tk, args7);
KPACK_KERNEL(tk, args16);
KPACK_KERNEL(tk, args58);
KPACK_KERNEL(tk, fixed7);
KPACK_KERNEL(tk, tuned7);

values given;

namespace {

void check(kpack::Status status, const char *what) {
  if (status) return;
  std::fprintf(stderr, "%s: %s: %s\n", what, status.name(), status.message());
  std::exit(1);
}

template <class... A>
std::vector<kpk_arg> arguments_of(const A &...values) {
  return {kpack::detail::arg(values)...};
}
template <class... A>
std::vector<kpk_arg> arguments(int, const A &...values) {
  return arguments_of(values...);
}

}  // namespace

#define ARGS_nothing()
#define ARGS_args7() , given.result, given.p, given.p, given.i, given.i, given.l, given.f
#define ARGS_args16()                                                                                       \
  , given.result, given.p, given.p, given.p, given.i, given.i, given.i, given.i, given.l, given.l, given.l, \
      given.l, given.f, given.f, given.f, given.f
#define TWO(x) , x, x
#define FOUR(x) TWO(x) TWO(x)
#define SIXTEEN(x) FOUR(x) FOUR(x) FOUR(x) FOUR(x)
#define ARGS_args58() \
  , given.result, given.p FOUR(given.p) FOUR(given.p) SIXTEEN(given.i) SIXTEEN(given.l) SIXTEEN(given.f)

// The ways: through the kernel, by its arguments ready made, through a handle bound to the device, and through one
// pinned to the variant; from C, argument by argument, in budget_c.c.
#define WAYS(kernel)                                                                                         \
  extern "C" __attribute__((noinline)) void budget_call_##kernel(int count) {                                \
    for (int n = 0; n < count; ++n) check(tk::kernel(given.stream ARGS_##kernel()), #kernel);                \
  }                                                                                                          \
  extern "C" __attribute__((noinline)) void budget_args_##kernel(const kpk_kernel *k, const kpk_arg *args,   \
                                                                 uint32_t arg_count, int count) {            \
    const kpk_stream on = {given.stream, KPK_VENDOR_CUDA, 0};                                                \
    for (int n = 0; n < count; ++n) check(kpk_launch(k, on, args, arg_count, 0), #kernel ", arguments");     \
  }                                                                                                          \
  extern "C" __attribute__((noinline)) void budget_bound_##kernel(const kpack::Bound &bound, int count) {    \
    for (int n = 0; n < count; ++n) check(bound(given.stream ARGS_##kernel()), #kernel ", bound");           \
  }                                                                                                          \
  extern "C" __attribute__((noinline)) void budget_pinned_##kernel(const kpack::Bound &pinned, int count) {  \
    for (int n = 0; n < count; ++n) check(pinned(given.stream ARGS_##kernel()), #kernel ", pinned");         \
  }                                                                                                          \
  static void run_##kernel(int count) {                                                                      \
    const kpack::Bound bound = tk::kernel.bind(kpack::cuda_device(0));                                       \
    const kpack::Bound pinned = tk::kernel.pin(kpack::cuda_device(0) ARGS_##kernel());                       \
    check(bound.status(), #kernel ": bind"), check(pinned.status(), #kernel ": pin");                        \
    const std::vector<kpk_arg> args = arguments(0 ARGS_##kernel());                                          \
    budget_call_##kernel(count), budget_bound_##kernel(bound, count), budget_pinned_##kernel(pinned, count); \
    budget_args_##kernel(&kpack::Kernel(tk::kernel).native(), args.data(),                                   \
                         static_cast<uint32_t>(args.size()), count);                                         \
    check(budget_call_c_##kernel(&kpack::Kernel(tk::kernel).native(), count), #kernel ", C");                \
  }

WAYS(nothing)
WAYS(args7)
WAYS(args16)
WAYS(args58)

// What tuning adds: a kernel without alternatives, one with two keys in its table, of which all calls have the first, and
// the same whose calls have them in turns.
#define TUNED(way, kernel, second)                                                                    \
  extern "C" __attribute__((noinline)) void budget_##way##_tuned7(int count) {                        \
    for (int n = 0; n < count; ++n)                                                                   \
      check(tk::kernel(given.stream, given.result, given.p, given.p, n % 2 == 0 ? given.i : (second), \
                       given.i, given.l, given.f),                                                    \
            #way);                                                                                    \
  }
TUNED(fixed, fixed7, given.i * 2)
TUNED(one_key, tuned7, given.i + 20)
TUNED(two_keys, tuned7, given.i * 2)

static void run_tuned7(int count) {
  budget_fixed_tuned7(count), budget_one_key_tuned7(count), budget_two_keys_tuned7(count);
}

int main(int count, char **arguments) {
  const int launches = count > 1 ? std::atoi(arguments[1]) : 1;
  const fake::Fake cuda = fake::open("libcuda.so.1", "cuda");
  void *context = nullptr;
  cuda.entry<int(unsigned)>("cuInit")(0);
  cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, 0);
  cuda.entry<int(void *)>("cuCtxSetCurrent")(context);
  given = {reinterpret_cast<double *>(0x10000),
           reinterpret_cast<const float *>(0x20000),
           1000,
           1 << 20,
           0.5F,
           nullptr};
  const auto call = [](int32_t i) {
    return arguments_of(given.result, given.p, given.p, i, given.i, given.l, given.f);
  };
  two_keys::tune(kpack::Kernel(tk::tuned7).native(), {given.stream, KPK_VENDOR_CUDA, 0}, call(given.i),
                 call(given.i * 2));
  cuda.record(0);
  // First to load and to learn the shortcuts, and then what is counted.
  for (const int each : {4, launches})
    run_nothing(each), run_args7(each), run_args16(each), run_args58(each), run_tuned7(each);
  if (cuda.violations() != 0) std::fprintf(stderr, "%s\n", cuda.violation(0));
  return cuda.violations() == 0 ? 0 : 1;
}
