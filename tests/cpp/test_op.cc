// Ops on the fake drivers: variants of several kernels and the program's own functions, tuned as alternatives.

#include <cstdlib>

#include "module.h"
#include "tune/key.h"
#include "tune/tuning.h"
#include "tuned.h"

KPACK_KERNEL(tuned, plain);
KPACK_KERNEL(tuned, other);
KPACK_KERNEL(tuned, cut);
KPACK_KERNEL(tuned, rows);

namespace {

using namespace tune_test;

constexpr char k64[] = "fp32.BLOCK64.w1.a16", k128[] = "fp32.BLOCK128.w1.a16",
               k256[] = "fp32.BLOCK256.w1.a16";
constexpr const char *kVariants[] = {
    k64, k128, k256, "fp32.BLOCK64.w1", "fp32.BLOCK128.w1", "fp32.BLOCK256.w1"};
constexpr int32_t kN = 1000;
constexpr uint64_t kBytes = kN * sizeof(float);
const std::string kFixed = function_of("plain", k64);

float *out_at(uintptr_t address = 0x1000) { return reinterpret_cast<float *>(address); }
const float *in_at(uintptr_t address = 0x2000) { return reinterpret_cast<const float *>(address); }

// A function of the program's own: it launches one of kpack's kernels, or does what the test says.
struct Own {
  uint64_t calls = 0;
  int32_t most = INT32_MAX;  // of n, that it does
  kpk_status fails_with = KPK_OK;
  const kpk_kernel *kernel = nullptr;
  static kpk_status run(void *user, kpk_stream stream, const kpk_arg *args, uint32_t count) {
    auto &own = *static_cast<Own *>(user);
    ++own.calls;
    if (own.fails_with != KPK_OK) return own.fails_with;
    if (static_cast<int64_t>(args[2].bits) > own.most) return KPK_ERROR_UNSUPPORTED;
    return own.kernel == nullptr ? KPK_OK : kpk_launch(own.kernel, stream, args, count, 0);
  }
};

std::string run_op(const kpack::Op &op, int32_t n = kN, float *out = out_at()) {
  return run([&] { return op(kpack::Stream(kStream), out, in_at(), n).code(); });
}

uint64_t hash_of(std::initializer_list<const kpk_kernel *> kernels, const char *function = nullptr,
                 uint64_t version = 0) {
  uint64_t hash = kpk::kWordSeed;
  for (const kpk_kernel *kernel : kernels) hash = kpk::mix(hash, kpk::tuning_hash(kpk::KernelView(*kernel)));
  if (function != nullptr) hash = kpk::mix(kpk::mix(hash, kpk::hash_text(function)), version);
  return kpk::finish(hash);
}
const kpk_kernel *const kPlain = &kpack::Kernel(tuned::plain).native();
const kpk_kernel *const kOther = &kpack::Kernel(tuned::other).native();

const std::string kHead =
    "# kpack tuning table 1\nkernel,hash,device,overload,call,choice,median_us,fixed_us,left_out\n";
std::string line(uint64_t hash, int64_t n, const std::string &choice) {
  char text[32];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return std::string("op:twice,") + text + ",sm_90/132,\"*fp32,*fp32,i32\",\"n=" + std::to_string(n) +
         " 16=out_ptr,in_ptr\"," + choice + ",1.5,2.5,\n";
}

TEST(without_an_entry_the_first_kernel_runs) {
  start();
  kpack::Op op("twice", tuned::plain);
  Own own;
  op.add(tuned::other).add("own", 1, Own::run, &own);
  CHECK(op.status());
  for (int turn = 0; turn < 4; ++turn) {
    EXPECT_EQ(run_op(op), kFixed);
    EXPECT_EQ(run_op(op, 100000), function_of("plain", k128));
  }
  EXPECT_EQ(own.calls, uint64_t{0});
  // It is the kernel's own launch, with all that it says.
  EXPECT_EQ(op(kpack::Stream(kStream), out_at(), in_at()).code(), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(op(kpack::Stream(kStream), out_at(), in_at(), 1 << 30).code(), KPK_ERROR_NO_VARIANT);
  finish();
}

TEST(what_a_table_says_runs_of_whatever_kernel_or_function) {
  start();
  const Folder folder;
  const uint64_t hash = hash_of({kPlain, kOther}, "own", 7);
  write_file(folder / "t", kHead + line(hash, 1024, std::string("plain/") + k256) +
                               line(hash, 2048, std::string("other/") + k128) +
                               line(hash, 4096, "function:own") + line(hash, 8192, "function:gone") +
                               line(hash, 10240, "other/gone") + line(hash ^ 1, 512, "function:own"));
  set(KPK_TUNING_USE, folder / "t");
  kpack::Op op("twice", tuned::plain);
  Own own;
  op.add(tuned::other).add("own", 7, Own::run, &own);
  for (uint64_t turn = 1; turn < 5; ++turn) {
    EXPECT_EQ(run_op(op), function_of("plain", k256));
    EXPECT_EQ(run_op(op, 2000), function_of("other", k128));
    EXPECT_EQ(run_op(op, 4000), std::string());
    EXPECT_EQ(own.calls, turn);
    EXPECT_EQ(run_op(op, 8000), kFixed);
    EXPECT_EQ(run_op(op, 10000), kFixed);
    EXPECT_EQ(run_op(op, 500), kFixed);
    EXPECT_EQ(run_op(op, 1000, out_at(0x1004)), std::string("plain_fp32_BLOCK64_w1"));
    // Its kernels by themselves know nothing of it.
    EXPECT_EQ(run([] { return tuned::plain(kpack::Stream(kStream), out_at(), in_at(), kN).code(); }), kFixed);
    EXPECT_EQ(run([] { return tuned::other(kpack::Stream(kStream), out_at(), in_at(), 2000).code(); }),
              function_of("other", k64));
  }
  finish();
}

TEST(calls_in_turns_take_shortcuts) {
  start();
  const Folder folder;
  const uint64_t hash = hash_of({kPlain, kOther});
  write_file(folder / "t", kHead + line(hash, 1024, std::string("plain/") + k256) +
                               line(hash, 2048, std::string("other/") + k128));
  set(KPK_TUNING_USE, folder / "t");
  kpack::Op op("twice", tuned::plain);
  op.add(tuned::other);
  for (int turn = 0; turn < 3; ++turn) run_op(op, 1000), run_op(op, 2000);
  for (int turn = 0; turn < 3; ++turn) run_op(op, 4000);
  const auto is_packed = [&](int32_t n, float *out = out_at()) {
    const float *in = in_at();
    kpack::detail::PackedCall<float *, const float *, int32_t> call(out, in, n);
    return kpk_op_launch_packed(op.native(), kStream, &call.call) == KPK_OK;
  };
  for (const int32_t n : {1000, 2000, 4000, 1800, 900}) {
    CHECK(is_packed(n));
    fake_launch made;
    CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
    EXPECT_EQ(std::string(made.function), n <= 1024   ? function_of("plain", k256)
                                          : n <= 2048 ? function_of("other", k128)
                                                      : kFixed);
  }
  CHECK(!is_packed(1025));
  CHECK(!is_packed(1000, out_at(0x1004)));
  // A kernel that is unloaded takes its shortcuts with it.
  kpk_unload(kOther);
  CHECK(!is_packed(2000));
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(run_op(op, 2000), function_of("other", k128));
  CHECK(is_packed(2000));
  finish();
}

TEST(a_function_that_does_not_do_a_call_leaves_it_to_the_first_kernel) {
  start();
  const Folder folder;
  write_file(folder / "t", kHead + line(hash_of({kPlain}, "own", 1), 1024, "function:own"));
  set(KPK_TUNING_USE, folder / "t");
  kpack::Op op("twice", tuned::plain);
  Own own;
  own.most = 950;
  op.add("own", 1, Own::run, &own);
  for (int turn = 0; turn < 4; ++turn) {
    EXPECT_EQ(run_op(op, 1000), kFixed);
    EXPECT_EQ(run_op(op, 900), std::string());
  }
  EXPECT_EQ(own.calls, uint64_t{8});
  own.fails_with = KPK_ERROR_DRIVER;
  EXPECT_EQ(op(kpack::Stream(kStream), out_at(), in_at(), 900).code(), KPK_ERROR_DRIVER);
  finish();
}

TEST(a_variant_that_may_not_run_a_call_of_the_key_is_passed_over) {
  start();
  const Folder folder;
  const uint64_t hash = hash_of({kPlain, &kpack::Kernel(tuned::cut).native()});
  write_file(folder / "t", kHead + line(hash, 1024, std::string("cut/") + k128));
  set(KPK_TUNING_USE, folder / "t");
  kpack::Op op("twice", tuned::plain);
  op.add(tuned::cut);
  for (int turn = 0; turn < 4; ++turn) {
    EXPECT_EQ(run_op(op, 1000), kFixed);
    EXPECT_EQ(run_op(op, 900), function_of("cut", k128));
  }
  finish();
}

// Host memory, which kernels of the op double.
struct Memory {
  float *in = memory(kBytes), *out = memory(kBytes);
  Memory() {
    for (int32_t i = 0; i < kN; ++i) in[i] = static_cast<float>(i), out[i] = -1;
  }
  ~Memory() {
    cuda.entry<int(void *)>("cuMemFree_v2")(in);
    cuda.entry<int(void *)>("cuMemFree_v2")(out);
  }
  std::vector<std::string> launch(const kpack::Op &op) const {
    return all_of([&] { return op(kpack::Stream(kStream), out, static_cast<const float *>(in), kN).code(); });
  }
};

TEST(tune_mode_finds_the_fastest_of_all) {
  start();
  const Folder folder;
  set(KPK_TUNING_TUNE, folder / "t");
  const Memory memory;
  Way ways[12];
  for (int i = 0; i < 6; ++i) {
    behave(ways[i], "plain", kVariants[i], 50000);
    behave(ways[6 + i], "other", kVariants[i], 60000);
  }
  behave(ways[7], "other", k128, 10000, 100);  // wrong
  behave(ways[8], "other", k256, 20000);
  Own own, failing;
  own.kernel = kOther;
  failing.fails_with = KPK_ERROR_UNSUPPORTED;
  kpack::Op op("twice", tuned::plain);
  op.add(tuned::other).add("failing", 1, Own::run, &failing);
  const std::vector<std::string> first = memory.launch(op);
  CHECK(first.size() > 10);
  EXPECT_EQ(first.back(), function_of("other", k256));
  CHECK(memory.out[7] == 2 * memory.in[7]);
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(memory.launch(op).size(), size_t{1});
  EXPECT_EQ(failing.calls, uint64_t{1});
  const std::string text = file_text(folder / "t");
  CHECK(has(text, "op:twice,") && has(text, "other/fp32.BLOCK256.w1.a16") &&
        has(text, "other/fp32.BLOCK128.w1.a16: wrong") && has(text, "function:failing: failed"));
  CHECK(!has(text, "\nplain,"));
  // It is an entry of this op as it is made.
  set(KPK_TUNING_USE, folder / "t");
  EXPECT_EQ(memory.launch(op).back(), function_of("other", k256));
  kpack::Op newer("twice", tuned::plain);
  newer.add(tuned::other).add("failing", 2, Own::run, &failing);
  EXPECT_EQ(memory.launch(newer).back(), kFixed);
  finish();
}

TEST(a_function_may_be_the_fastest_and_launch_kernels_itself) {
  start();
  set(KPK_TUNING_TUNE);
  const Memory memory;
  Way ways[12];
  for (int i = 0; i < 6; ++i) {
    behave(ways[i], "plain", kVariants[i], 50000);
    behave(ways[6 + i], "other", kVariants[i], 20000);
  }
  Own own;
  own.kernel = kOther;
  kpack::Op op("twice", tuned::plain);
  op.add("own", 1, Own::run, &own);
  std::vector<Told> told;
  const kpk_tune_options given = options(&told);
  EXPECT_EQ(
      op.tune(kpack::Stream(kStream), given, memory.out, static_cast<const float *>(memory.in), kN).code(),
      KPK_OK);
  EXPECT_EQ(told.size(), size_t{7});
  EXPECT_EQ(told[0].name, std::string("plain/") + k64);
  EXPECT_EQ(told[6].name, std::string("function:own"));
  EXPECT_EQ(told[6].chosen, 1U);
  const uint64_t calls = own.calls;
  set(KPK_TUNING_USE);  // what was found, and is in no table, is forgotten
  EXPECT_EQ(memory.launch(op).back(), kFixed);
  EXPECT_EQ(own.calls, calls);
  EXPECT_EQ(
      op.tune(kpack::Stream(kStream), given, memory.out, static_cast<const float *>(memory.in), kN).code(),
      KPK_OK);
  EXPECT_EQ(memory.launch(op).back(), function_of("other", k64));
  // A search in a search is none.
  struct Nested {
    const kpack::Op &op;
    kpk_status status;
  } nested = {op, KPK_OK};
  kpack::Op outer("outer", tuned::plain);
  outer.add(
      "nested", 1,
      [](void *user, kpk_stream stream, const kpk_arg *args, uint32_t count) {
        auto &in = *static_cast<Nested *>(user);
        in.status = kpk_op_tune(in.op.native(), stream, args, count, nullptr);
        return in.status;
      },
      &nested);
  EXPECT_EQ(
      outer.tune(kpack::Stream(kStream), given, memory.out, static_cast<const float *>(memory.in), kN).code(),
      KPK_OK);
  EXPECT_EQ(nested.status, KPK_ERROR_ARGUMENT);
  finish();
}

TEST(an_op_goes_where_its_stream_is) {
  start();
  const Folder folder;
  const uint64_t hash = hash_of({kPlain, kOther}, "own", 1);
  std::string on_other = line(hash, 1024, std::string("other/") + k128);
  on_other.replace(on_other.find("sm_90/132"), 9, "sm_80/108");
  write_file(folder / "t", kHead + line(hash, 1024, std::string("plain/") + k256) + on_other +
                               line(hash, 2048, "function:own"));
  set(KPK_TUNING_USE, folder / "t");
  kpack::Op op("twice", tuned::plain);
  Own own;
  op.add(tuned::other).add("own", 1, Own::run, &own);
  void *contexts[2] = {};
  for (int device = 0; device < 2; ++device)
    EXPECT_EQ(cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&contexts[device], device), 0);
  for (int turn = 0; turn < 12; ++turn) {
    for (const int device : {0, 1, turn % 2}) {
      EXPECT_EQ(cuda.entry<int(void *)>("cuCtxSetCurrent")(contexts[device]), 0);
      // First what no driver would refuse.
      EXPECT_EQ(run_op(op, 2000), device == 0 ? std::string() : kFixed);
      EXPECT_EQ(run_op(op), device == 0 ? function_of("plain", k256) : function_of("other", k128));
      EXPECT_EQ(run_op(op, 4000), kFixed);
    }
  }
  EXPECT_EQ(cuda.entry<int(void *)>("cuCtxSetCurrent")(contexts[0]), 0);
  finish();
}

TEST(an_op_is_recorded_under_its_name) {
  start();
  const Folder folder;
  set(KPK_TUNING_RECORD, "", folder / "s");
  kpack::Op op("twice", tuned::plain);
  for (int turn = 0; turn < 3; ++turn) run_op(op);
  EXPECT_EQ(
      file_text(folder / "s"),
      std::string("# kpack shapes 1\nkernel,call\nop:twice,out_ptr=*fp32:256 in_ptr=*fp32:256 n=1000\n"));
  finish();
}

TEST(an_op_says_what_it_would_run) {
  start();
  const Folder folder;
  write_file(folder / "t", kHead + line(hash_of({kPlain}, "own", 1), 1024, "function:own"));
  kpack::Op op("twice", tuned::plain);
  Own own;
  op.add("own", 1, Own::run, &own);
  const auto explain = [&](int32_t n) {
    const kpk_arg args[] = {kpack::detail::arg(out_at()), kpack::detail::arg(in_at()), kpack::detail::arg(n)};
    std::string text(4096, '\0');
    text.resize(kpk_op_explain(op.native(), kpack::cuda_device(0), args, 3, &text[0], text.size()));
    EXPECT_EQ(kpk_op_explain(op.native(), kpack::cuda_device(0), args, 3, nullptr, 0), text.size());
    return text;
  };
  CHECK(has(explain(1000), "op:twice on sm_90: runs as its first kernel\nplain on sm_90: runs fp32.BLOCK64"));
  set(KPK_TUNING_USE, folder / "t");
  CHECK(
      has(explain(1000),
          "op:twice on sm_90: runs function:own where that may run the call\ntuned, from the table file, for "
          "n=1024 16=out_ptr,in_ptr on sm_90/132\nplain on sm_90: "));
  CHECK(has(explain(2000), "runs as its first kernel\nnot tuned for n=2048 "));
  finish();
}

TEST(an_op_refuses_what_it_cannot_be) {
  start();
  kpk_op *made = nullptr;
  EXPECT_EQ(kpk_op_create(nullptr, kPlain, &made), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(kpk_op_create("twice", nullptr, &made), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(kpk_op_create("twice", kPlain, nullptr), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(kpk_op_launch(nullptr, kStream, nullptr, 0, 0), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(kpk_op_tune(nullptr, kStream, nullptr, 0, nullptr), KPK_ERROR_ARGUMENT);
  kpk_op_free(nullptr);
  kpack::Op op("twice", tuned::plain);
  Own own;
  CHECK(op.add("own", 1, Own::run, &own).status());
  EXPECT_EQ(kpack::Op("twice", tuned::plain).add(tuned::plain).status().code(), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(std::string(kpk_message()),
            std::string("op:twice: expected each kernel once, got a second 'plain'"));
  EXPECT_EQ(kpk_op_add_function(op.native(), "own", 2, Own::run, &own), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(kpk_op_add_function(op.native(), "more", 2, nullptr, &own), KPK_ERROR_ARGUMENT);
  run_op(op);
  EXPECT_EQ(op.add(tuned::other).status().code(), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(std::string(kpk_message()),
            std::string("op:twice: expected its members before its first launch, got one after it"));
  // One that is moved from is nobody's.
  kpack::Op moved = static_cast<kpack::Op &&>(op);
  EXPECT_EQ(run_op(moved), kFixed);
  EXPECT_EQ(op(kpack::Stream(kStream), out_at(), in_at(), kN).code(), KPK_ERROR_ARGUMENT);
  finish();
}

TEST(ops_come_and_go) {
  start();
  const Folder folder;
  const uint64_t hash = hash_of({kPlain, kOther});
  write_file(folder / "t", kHead + line(hash, 1024, std::string("other/") + k128));
  set(KPK_TUNING_USE, folder / "t");
  for (int turn = 0; turn < 20; ++turn) {
    kpack::Op op("twice", tuned::plain);
    op.add(tuned::other);
    for (int each = 0; each < 3; ++each) {
      EXPECT_EQ(run_op(op), function_of("other", k128));
      EXPECT_EQ(run_op(op, 5000), kFixed);
      EXPECT_EQ(run([] { return tuned::other(kpack::Stream(kStream), out_at(), in_at(), kN).code(); }),
                function_of("other", k64));
    }
  }
  // Nothing that it looked up is left behind.
  for (const std::atomic<kpk::DeviceState *> &slot : kpk::slot_of(*kOther).state.load()->devices) {
    const kpk::DeviceState *device = slot.load();
    for (uint32_t i = 0; device != nullptr && i < device->overloads[0]->count; ++i) {
      const kpk::Function *function = device->overloads[0]->candidates[i].functions.load();
      for (; function != nullptr; function = function->next) CHECK(function->keyed.load() == nullptr);
    }
  }
  finish();
}

}  // namespace

int main(int count, char **arguments) {
  cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure("sm_90,sm_80");
  cuda.entry<int(unsigned)>("cuInit")(0);
  return check::run(count > 1 ? arguments[1] : "");
}
