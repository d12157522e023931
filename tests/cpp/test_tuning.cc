// Tuning on the fake drivers: keys, tables, what runs by them, searches in launches and by themselves, shapes.

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>

#include "describe.h"
#include "edit.h"
#include "module.h"
#include "shortcut.h"
#include "tune/key.h"
#include "tune/table.h"
#include "tune/tuned.h"
#include "tune/tuning.h"
#include "tuned.h"

KPACK_KERNEL(tuned, plain);
KPACK_KERNEL(tuned, cut);
KPACK_KERNEL(tuned, odd);
KPACK_KERNEL(tuned, preferring);
KPACK_KERNEL(tuned, rows);
KPACK_KERNEL(tuned, unknown);
KPACK_KERNEL(tuned, biased);

namespace {

using namespace tune_test;

constexpr char kDevice[] = "sm_90/132";

const kpk_kernel &native(const kpack::Kernel &kernel) { return kernel.native(); }
kpk::KernelView view_of(const kpack::Kernel &kernel) { return kpk::KernelView(kernel.native()); }

// Addresses that nobody follows: kernels that are told nothing do nothing.
float *out_at(uintptr_t address = 0x1000) { return reinterpret_cast<float *>(address); }
const float *in_at(uintptr_t address = 0x2000) { return reinterpret_cast<const float *>(address); }

std::string run_plain(int32_t n, float *out = out_at()) {
  return run([=] { return tuned::plain(kpack::Stream(kStream), out, in_at(), n).code(); });
}

std::string texts(void (*add)(const void *, kpk::Text *), const void *what) {
  kpk::HostArray<char> text;
  CHECK(kpk::write_text(&text, [&](kpk::Text *out) { add(what, out); }));
  return text.data();
}

// A line of a table.
std::string line(const kpack::Kernel &kernel, const std::string &call, const std::string &choice,
                 const std::string &device = kDevice, const std::string &overload = "*fp32,*fp32,i32",
                 uint64_t hash = 0) {
  if (hash == 0) hash = kpk::tuning_hash(view_of(kernel));
  char text[64];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return std::string(kernel.name()) + "," + text + "," + device + ",\"" + overload + "\",\"" + call + "\"," +
         choice + ",1.5,2.5,\n";
}
const std::string kHead =
    "# kpack tuning table 1\nkernel,hash,device,overload,call,choice,median_us,fixed_us,left_out\n";
constexpr char kBoth[] = "16=out_ptr,in_ptr";

std::string key(int64_t n, const char *rest = kBoth) { return "n=" + std::to_string(n) + " " + rest; }

constexpr char k64[] = "fp32.BLOCK64.w1.a16", k128[] = "fp32.BLOCK128.w1.a16",
               k256[] = "fp32.BLOCK256.w1.a16";
const std::string kFixed = function_of("plain", k64);

// ---- Keys

int64_t bucket_by_definition(int64_t value) {
  if (value <= 16) return value;
  for (int k = 0; k < 61; ++k) {
    for (int64_t m = 4; m <= 8; ++m) {
      if (m <= INT64_MAX >> k && m << k >= value) return m << k;
    }
  }
  return INT64_MAX;
}

TEST(buckets_are_quarters_of_octaves) {
  const std::map<int64_t, int64_t> some = {{17, 20},
                                           {20, 20},
                                           {21, 24},
                                           {32, 32},
                                           {33, 40},
                                           {1000, 1024},
                                           {1025, 1280},
                                           {0, 0},
                                           {-5, -5},
                                           {16, 16},
                                           {INT64_MIN, INT64_MIN}};
  for (const auto &[value, bucket] : some) EXPECT_EQ(kpk::bucket_of(value), bucket);
  std::mt19937_64 random(1);
  for (int i = 0; i < 100000; ++i) {
    const auto value = static_cast<int64_t>(random() >> (random() % 64));
    const int64_t bucket = kpk::bucket_of(value);
    EXPECT_EQ(bucket, bucket_by_definition(value));
    const kpk::Range range = kpk::bucket_range(value);
    CHECK(range.least <= value && value <= range.most);
    EXPECT_EQ(range.most, bucket);
    EXPECT_EQ(kpk::bucket_of(range.least), bucket);
    EXPECT_EQ(kpk::bucket_of(bucket), bucket);
    if (bucket != INT64_MAX) CHECK(kpk::bucket_of(bucket + 1) > bucket);
    if (value > INT64_MIN) CHECK(kpk::bucket_of(range.least - 1) < bucket || range.least == INT64_MIN);
  }
  EXPECT_EQ(kpk::bucket_of(INT64_MAX), INT64_MAX);
  EXPECT_EQ(kpk::bucket_of((INT64_C(7) << 60) + 1), INT64_MAX);
}

// An argument array, and the masks of choosing.
struct Given {
  std::vector<kpk_arg> args;
  kpk::Call call;
  template <class... A>
  explicit Given(const A &...values) : args{kpack::detail::arg(values)...} {
    call = {args.data(), static_cast<uint32_t>(args.size()), 0, 0, 0};
    for (uint32_t i = 0; i < call.count; ++i) {
      call.divisible_16 |= uint64_t{args[i].bits % 16 == 0} << i;
      call.equal_1 |= uint64_t{args[i].bits == 1} << i;
      call.null |= uint64_t{args[i].bits == 0} << i;
    }
  }
};

TEST(a_key_has_its_text_and_the_text_its_key) {
  const kpk::KernelView rows = view_of(tuned::rows);
  kpk::Device device = {};
  CHECK(kpk::describe_arch("sm_90", &device));
  device.multiprocessors = 132;
  kpk::KeyRule *rule = kpk::make_rule(rows, rows.overloads[0], device, nullptr);
  const Given given(out_at(), in_at(0x2004), 1, 7, 0.5F, true, 1000);
  struct Of {
    const kpk::KernelView &view;
    const kpk::KeyRule &rule;
    const kpk::Call &call;
  };
  const Of of = {rows, *rule, given.call};
  const auto add_call = [](const void *what, kpk::Text *out) {
    const auto &each = *static_cast<const Of *>(what);
    kpk::add_call_text(each.view, each.rule, each.call, out);
  };
  EXPECT_EQ(texts(add_call, &of), std::string("n=7 rows=1024 16=out_ptr 1=stride"));
  const uint64_t key = kpk::key_of(*rule, given.call);
  // As kpack/tuning/key.py: device, overload, three masks, values.
  uint64_t hash = kpk::kWordSeed;
  const uint64_t words[] = {
      kpk::hash_text("sm_90/132"), kpk::hash_text("*fp32,*fp32,i32,i32,fp32;FAST=True"), 1, 4, 0, 7, 1024};
  for (const uint64_t word : words) hash = kpk::mix(hash, word);
  EXPECT_EQ(key, hash);
  uint64_t parsed = 0;
  // Any order, and any value of the bucket.
  for (const char *text : {"n=7 rows=1024 16=out_ptr 1=stride", "1=stride rows=1000 16=out_ptr n=7",
                           "rows=897 n=7 1=stride 16=out_ptr"}) {
    CHECK(kpk::parse_call_text(rows, *rule, text, &parsed));
    EXPECT_EQ(parsed, key);
  }
  for (const char *text :
       {"", "-", "n=1", "n=1 rows=1024 x=2", "n=1 n=1 rows=1024", "n=x rows=1024", "n= rows=1024",
        "n=1 rows=1024 16=", "n=1 rows=1024 16=scale", "n=1 rows=1024 16=out", "n=1 rows=1024 16=stride",
        "n=1 rows=1024 1=n", "n=1 rows=1024 16=out_ptr 16=in_ptr", "n=1 rows=99999999999999999999",
        "n rows=1", "n=1  rows=1024 =", "n=1,rows=1024"}) {
    CHECK(!kpk::parse_call_text(rows, *rule, text, &parsed));
  }
  CHECK(kpk::parse_call_text(rows, *rule, "n=-9223372036854775808 rows=1", &parsed));
  std::free(rule);
}

TEST(a_value_that_is_exact_and_one_by_bucket_make_their_keys) {
  const kpk::KernelView rows = view_of(tuned::rows);
  kpk::Device device = {};
  CHECK(kpk::describe_arch("sm_90", &device));
  kpk::KeyRule *rule = kpk::make_rule(rows, rows.overloads[0], device, nullptr);
  const auto key_of = [&](float *out, int32_t n, int32_t count, float scale) {
    return kpk::key_of(*rule, Given(out, in_at(), 5, n, scale, true, count).call);
  };
  const uint64_t key = key_of(out_at(), 1000, 1000, 0.5F);
  EXPECT_EQ(key_of(out_at(0x5000), 1000, 1024, 2.5F), key);
  CHECK(key_of(out_at(), 1001, 1000, 0.5F) != key);
  CHECK(key_of(out_at(), 1000, 1025, 0.5F) != key);
  CHECK(key_of(out_at(0x1004), 1000, 1000, 0.5F) != key);
  kpk::KeyRule *of_op = kpk::make_rule(rows, rows.overloads[0], device, "op:rows");
  CHECK(of_op->seed != rule->seed);
  std::free(of_op), std::free(rule);
}

TEST(texts_in_quotes_are_one_line_of_text) {
  const auto add = [](const void *text, kpk::Text *out) {
    kpk::add_quoted(static_cast<const char *>(text), out);
  };
  EXPECT_EQ(texts(add, "it's a \\\n\x7fé"), std::string("'it\\'s a \\\\\\x0a\\x7f\xc3\xa9'"));
}

TEST(what_is_known_is_found_however_much_there_is) {
  kpk::Device device = {};
  CHECK(kpk::describe_arch("sm_90", &device));
  const kpk::KernelView view = view_of(tuned::plain);
  kpk::Tuning *tuning = kpk::new_tuning(view, device, KPK_TUNING_USE, nullptr, 1);
  CHECK(tuning != nullptr);
  std::mt19937_64 random(2);
  std::vector<uint64_t> keys;
  const kpk::Lock lock(kpk::g_tuning_mutex);
  for (int i = 0; i < 5000; ++i) {
    keys.push_back(random() | 1);
    bool added = false;
    const kpk::Tuned *made =
        kpk::add_tuned(tuning, keys.back(), kpk::choice_of(nullptr, kpk::Origin::kRefused), &added);
    CHECK(made != nullptr && added);
    EXPECT_EQ(kpk::add_tuned(tuning, keys.back(), 0, &added), made);
    CHECK(!added);
  }
  for (const uint64_t each : keys) EXPECT_EQ(kpk::find_tuned(*tuning, each)->key, each);
  CHECK(kpk::find_tuned(*tuning, 2) == nullptr);
  // Of keys that no table knows there is an end.
  uint32_t fixed = 0;
  bool added = false;
  while (kpk::add_tuned(tuning, random() | 1, kpk::choice_of(nullptr, kpk::Origin::kFixed), &added) !=
         nullptr)
    ++fixed;
  EXPECT_EQ(fixed, 4096U);
  kpk::free_tuning(tuning);
}

// ---- What a table says

TEST(a_table_says_what_runs) {
  start();
  const Folder folder;
  const std::string table = folder / "table.csv";
  write_file(table, kHead + line(tuned::plain, key(1024), k256) + line(tuned::plain, key(2048), k64) +
                        line(tuned::plain, key(2048), k128) +
                        line(tuned::plain, key(1280, "16=in_ptr"), "fp32.BLOCK128.w1"));
  set(KPK_TUNING_USE, table);
  for (int turn = 0; turn < 4; ++turn) {
    EXPECT_EQ(run_plain(1000), function_of("plain", k256));
    EXPECT_EQ(run_plain(897), function_of("plain", k256));
    EXPECT_EQ(run_plain(896), kFixed);  // of the next bucket
    EXPECT_EQ(run_plain(1025), kFixed);
    EXPECT_EQ(run_plain(2000), function_of("plain", k128));  // the later of two entries
    EXPECT_EQ(run_plain(1280), kFixed);                      // of another class
    EXPECT_EQ(run_plain(1280, out_at(0x1004)), "plain_fp32_BLOCK128_w1");
    EXPECT_EQ(run_plain(1000, out_at(0x1004)), "plain_fp32_BLOCK64_w1");
  }
  set(KPK_TUNING_OFF, table);
  for (int turn = 0; turn < 4; ++turn) EXPECT_EQ(run_plain(1000), kFixed);
  set(KPK_TUNING_USE, table);
  for (int turn = 0; turn < 4; ++turn) EXPECT_EQ(run_plain(1000), function_of("plain", k256));
  set(KPK_TUNING_USE);
  for (int turn = 0; turn < 4; ++turn) EXPECT_EQ(run_plain(1000), kFixed);
  finish();
}

TEST(what_is_not_of_this_device_and_build_is_not_used) {
  start();
  const Folder folder;
  const std::string table = folder / "table.csv";
  const uint64_t hash = kpk::tuning_hash(view_of(tuned::plain));
  write_file(table, kHead + line(tuned::plain, key(1024), k256, "sm_90/78") +
                        line(tuned::plain, key(1024), k256, "gfx90a/104") +
                        line(tuned::plain, key(1024), k256, kDevice, "*fp16,*fp16,i32") +
                        line(tuned::plain, key(1024), k256, kDevice, "*fp32,*fp32,i32", hash ^ 1) +
                        line(tuned::plain, key(1024), k256, kDevice, "*fp32,*fp32,i32", hash ^ 2) +
                        line(tuned::plain, "m=1024", k256) +
                        line(tuned::plain, key(1024), "fp32.BLOCK512.w1.a16") +
                        line(tuned::plain, key(2048), "fp32.BLOCK128.w1.a16"));
  setenv("KPACK_LOG", "info", 1);
  set(KPK_TUNING_USE, table);
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(run_plain(1000), kFixed);
  EXPECT_EQ(run_plain(2000), function_of("plain", k128));
  finish();
}

// A table that is baked into an archive.
struct Baked {
  std::vector<kpk_abi_tuned> entries;
  kpk_abi_tuning table = {};
  Baked(uint64_t kernel_hash, std::vector<kpk_abi_tuned> given) : entries(std::move(given)) {
    table = {sizeof table, KPK_ABI_MAJOR, KPK_ABI_MINOR, kernel_hash, {}};
    table.entries.data =
        reinterpret_cast<const char *>(entries.data()) - reinterpret_cast<const char *>(&table.entries.data);
    table.entries.count = static_cast<uint32_t>(entries.size());
    table.entries.stride = sizeof(kpk_abi_tuned);
  }
};
kpk_ref reference(const kpk_ref &from, const void *to) {
  return reinterpret_cast<const char *>(to) - reinterpret_cast<const char *>(&from);
}

uint64_t key_on(const kpack::Kernel &kernel, const char *call, uint32_t overload = 0) {
  kpk::Device device = {};
  CHECK(kpk::describe_arch("sm_90", &device));
  device.multiprocessors = 132;
  const kpk::KernelView view = view_of(kernel);
  kpk::KeyRule *rule = kpk::make_rule(view, view.overloads[overload], device, nullptr);
  uint64_t key = 0;
  CHECK(kpk::parse_call_text(view, *rule, call, &key));
  std::free(rule);
  return key;
}
uint64_t hash_of(const kpack::Kernel &kernel, const char *variant) {
  const kpk::KernelView view = view_of(kernel);
  for (uint32_t v = 0; v < view.variants.size(); ++v) {
    if (std::strcmp(kpk::text(view.variants[v].name), variant) == 0) return view.variants[v].hash;
  }
  check::fail(__FILE__, __LINE__, std::string("no variant ") + variant);
}

TEST(a_baked_table_is_used_and_a_file_goes_over_it) {
  start();
  const uint64_t hash = kpk::tuning_hash(view_of(tuned::plain));
  const Baked baked(hash, {{key_on(tuned::plain, key(1024).c_str()), hash_of(tuned::plain, k128)},
                           {key_on(tuned::plain, key(2048).c_str()), hash_of(tuned::plain, k128)},
                           {key_on(tuned::plain, key(4096).c_str()), 12345}});
  const kpk_ref &ref = native(tuned::plain).tuning;
  const Edit<kpk_ref> edit(ref, reference(ref, &baked.table));
  set(KPK_TUNING_USE);
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_EQ(run_plain(1000), function_of("plain", k128));
    EXPECT_EQ(run_plain(4000), kFixed);  // of a variant that is gone
  }
  const Folder folder;
  write_file(folder / "t", kHead + line(tuned::plain, key(1024), k256));
  set(KPK_TUNING_USE, folder / "t");
  EXPECT_EQ(run_plain(1000), function_of("plain", k256));
  EXPECT_EQ(run_plain(2000), function_of("plain", k128));
  finish();
}

TEST(a_table_of_another_build_is_stale_and_says_so_once) {
  start();
  const uint64_t hash = kpk::tuning_hash(view_of(tuned::odd));
  const Baked baked(hash ^ 0xf0, {{key_on(tuned::odd, key(1024).c_str()), hash_of(tuned::odd, k256)}});
  const kpk_ref &ref = native(tuned::odd).tuning;
  const Edit<kpk_ref> edit(ref, reference(ref, &baked.table));
  const Stderr said;
  for (int turn = 0; turn < 3; ++turn) {
    set(KPK_TUNING_USE);
    const std::string seen =
        run([] { return tuned::odd(kpack::Stream(kStream), out_at(), in_at(), 1000).code(); });
    EXPECT_EQ(seen, function_of("odd", k64));
  }
  char expected[200];
  std::snprintf(expected, sizeof expected,
                "kpack: odd: its baked table was tuned for another build of it and is not used: expected "
                "hash %016llx, got "
                "%016llx\n",
                static_cast<unsigned long long>(hash), static_cast<unsigned long long>(hash ^ 0xf0));
  EXPECT_EQ(count(said.text(), expected), 1U);
  finish();
}

// ---- Shortcuts

// Does the call go as one block?
template <class... A>
bool is_packed(const kpack::Kernel &kernel, const A &...arguments) {
  kpack::detail::PackedCall<A...> call(arguments...);
  return kpk_launch_packed(&kernel.native(), kStream, &call.call) == KPK_OK;
}
bool is_packed_plain(int32_t n, float *out = out_at(), const float *in = in_at()) {
  return is_packed(tuned::plain, out, in, n);
}

TEST(calls_of_several_keys_in_turns_take_shortcuts) {
  start();
  const Folder folder;
  write_file(folder / "t", kHead + line(tuned::plain, key(1024), k256) + line(tuned::plain, key(2048), k128) +
                               line(tuned::plain, key(1024, "16=out_ptr"), "fp32.BLOCK256.w1"));
  set(KPK_TUNING_USE, folder / "t");
  // 4096 is in no table. Each key is learnt when it comes again, whatever comes between.
  for (int turn = 0; turn < 3; ++turn) {
    run_plain(1000), run_plain(2000);
    run([] { return tuned::plain(kpack::Stream(kStream), out_at(), in_at(0x2008), 1000).code(); });
  }
  for (int turn = 0; turn < 3; ++turn) run_plain(4000);
  for (int turn = 0; turn < 3; ++turn) {
    for (const int32_t n : {1000, 2000, 4000, 900, 1800, 3600}) {
      CHECK(is_packed_plain(n));
      fake_launch made;
      CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
      const char *expected = n <= 1024 ? k256 : n <= 2048 ? k128 : k64;
      EXPECT_EQ(std::string(made.function), function_of("plain", expected));
    }
    CHECK(is_packed_plain(1000, out_at(), in_at(0x2008)));
    fake_launch made;
    CHECK(cuda.launch(cuda.launches() - 1, &made) != 0);
    EXPECT_EQ(std::string(made.function), std::string("plain_fp32_BLOCK256_w1"));
    CHECK(!is_packed_plain(1025));
    CHECK(!is_packed_plain(1000, out_at(0x1008)));
    CHECK(!is_packed_plain(0));
  }
  finish();
}

TEST(a_table_that_comes_later_is_not_passed_by) {
  start();
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(run_plain(1000), kFixed);
  const kpack::Bound bound = tuned::plain.bind(kpack::cuda_device(0));
  const auto run_bound = [&] {
    return run([&] { return bound(kpack::Stream(kStream), out_at(), in_at(), 1000).code(); });
  };
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(run_bound(), kFixed);
  CHECK(is_packed_plain(1000));
  const kpack::Bound pinned = tuned::plain.pin(kpack::cuda_device(0), out_at(), in_at(), 1000);
  const auto run_pinned = [&] {
    return run([&] { return pinned(kpack::Stream(kStream), out_at(), in_at(), 1000).code(); });
  };
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(run_pinned(), kFixed);
  const Folder folder;
  write_file(folder / "t", kHead + line(tuned::plain, key(1024), k256));
  set(KPK_TUNING_USE, folder / "t");
  CHECK(!is_packed_plain(1000));
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_EQ(run_plain(1000), function_of("plain", k256));
    EXPECT_EQ(run_bound(), function_of("plain", k256));
    EXPECT_EQ(run_pinned(), kFixed);  // a handle that is pinned stays so
    EXPECT_EQ(run_plain(1000), function_of("plain", k256));
  }
  CHECK(is_packed_plain(1000));
  // Unloaded, it is tuned all the same, and knows no way to what is gone.
  for (int turn = 0; turn < 3; ++turn) run_plain(2000);
  CHECK(is_packed_plain(1000) && is_packed_plain(2000));
  kpk_unload(&native(tuned::plain));
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(run_plain(2000), kFixed);
  CHECK(is_packed_plain(2000) && !is_packed_plain(1000));
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(run_plain(1000), function_of("plain", k256));
  CHECK(is_packed_plain(1000));
  finish();
}

TEST(a_handle_pinned_to_what_was_tuned_keeps_it) {
  start();
  const Folder folder;
  write_file(folder / "t", kHead + line(tuned::plain, key(1024), k256));
  set(KPK_TUNING_USE, folder / "t");
  const kpack::Bound pinned = tuned::plain.pin(kpack::cuda_device(0), out_at(), in_at(), 1000);
  const auto run_pinned = [&](int32_t n) {
    return run([&] { return pinned(kpack::Stream(kStream), out_at(), in_at(), n).code(); });
  };
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_EQ(run_pinned(1000), function_of("plain", k256));
    EXPECT_EQ(run_pinned(5000), function_of("plain", k256));
    EXPECT_EQ(run_plain(5000), kFixed);
  }
  // By a shortcut of its own, for calls of any key.
  for (const int32_t n : {1000, 7000}) {
    float *out = out_at();
    const float *in = in_at();
    kpack::detail::PackedCall<float *, const float *, int32_t> call(out, in, n);
    EXPECT_EQ(kpk_launch_bound_packed(&pinned.native(), kStream, &call.call), KPK_OK);
  }
  finish();
}

TEST(a_guard_within_a_bucket_is_kept) {
  start();
  const Folder folder;
  write_file(folder / "t", kHead + line(tuned::cut, key(1024), k128) + line(tuned::odd, key(1024), k128));
  set(KPK_TUNING_USE, folder / "t");
  const auto run_cut = [](int32_t n) {
    return run([=] { return tuned::cut(kpack::Stream(kStream), out_at(), in_at(), n).code(); });
  };
  const auto run_odd = [](int32_t n) {
    return run([=] { return tuned::odd(kpack::Stream(kStream), out_at(), in_at(), n).code(); });
  };
  for (int turn = 0; turn < 4; ++turn) {
    for (const int32_t n : {900, 1000, 950, 951}) {
      EXPECT_EQ(run_cut(n), function_of("cut", n <= 950 ? k128 : k64));
      EXPECT_EQ(run_odd(n), function_of("odd", n % 3 == 0 ? k128 : k64));
    }
  }
  // The other way about: first what the tuned one may not run.
  set(KPK_TUNING_USE, folder / "t");
  for (int turn = 0; turn < 4; ++turn) EXPECT_EQ(run_cut(1000), function_of("cut", k64));
  for (int turn = 0; turn < 4; ++turn) EXPECT_EQ(run_cut(900), function_of("cut", k128));
  finish();
}

TEST(a_preference_is_no_match_for_a_measurement) {
  start();
  const auto run_preferring = [](int32_t n) {
    return run([=] { return tuned::preferring(kpack::Stream(kStream), out_at(), in_at(), n).code(); });
  };
  EXPECT_EQ(run_preferring(1000), function_of("preferring", k256));
  const Folder folder;
  write_file(folder / "t", kHead + line(tuned::preferring, key(1024), k128));
  set(KPK_TUNING_USE, folder / "t");
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(run_preferring(1000), function_of("preferring", k128));
  CHECK(is_packed(tuned::preferring, out_at(), in_at(), 1000));  // its guard is a bound
  finish();
}

// What runs by an independent reading of the rules: the variant of the table if it is eligible, else the first one.
struct Rules {
  std::map<std::string, int> table;  // block by "bucket class"
  std::string expected(int32_t n, bool out_16, bool in_16) const {
    const std::string call =
        std::to_string(bucket_by_definition(n)) + (out_16 ? "o" : "") + (in_16 ? "i" : "");
    const auto found = table.find(call);
    const int block = found != table.end() && n <= 1000 * std::abs(found->second) ? std::abs(found->second)
                      : n <= 64000                                                ? 64
                      : n <= 128000                                               ? 128
                                                                                  : 256;
    const bool tuned = found != table.end() && n <= 1000 * std::abs(found->second);
    const bool special = out_16 && in_16 && !(tuned && found->second < 0);
    return "plain_fp32_BLOCK" + std::to_string(block) + "_w1" + (special ? "_a16" : "");
  }
};

TEST(random_calls_run_what_the_rules_say) {
  start();
  const Folder folder;
  std::mt19937 random(3);
  Rules rules;
  std::string text = kHead;
  for (int i = 0; i < 200; ++i) {
    const int64_t bucket = bucket_by_definition(1 + static_cast<int64_t>(random() % 140000));
    const bool out_16 = random() % 2 != 0, in_16 = random() % 2 != 0;
    const int block = 64 << random() % 3;
    const bool general = random() % 3 == 0 || !(out_16 && in_16);
    const std::string names =
        std::string(out_16 ? "out_ptr" : "") + (out_16 && in_16 ? "," : "") + (in_16 ? "in_ptr" : "");
    const std::string call = "n=" + std::to_string(bucket) + (names.empty() ? "" : " 16=" + names);
    rules.table[std::to_string(bucket) + (out_16 ? "o" : "") + (in_16 ? "i" : "")] = general ? -block : block;
    text += line(tuned::plain, call, "fp32.BLOCK" + std::to_string(block) + ".w1" + (general ? "" : ".a16"));
  }
  write_file(folder / "t", text);
  set(KPK_TUNING_USE, folder / "t");
  const kpack::Bound bound = tuned::plain.bind(kpack::cuda_device(0));
  struct Call {
    int32_t n;
    uintptr_t out, in;
  };
  std::vector<Call> calls;
  for (int i = 0; i < 300; ++i) {
    calls.push_back({1 + static_cast<int32_t>(random() % (i % 2 != 0 ? 140000 : 3000)),
                     0x1000 + 4 * static_cast<uintptr_t>(random() % 2),
                     0x2000 + 4 * static_cast<uintptr_t>(random() % 2)});
  }
  for (int i = 0; i < 30000; ++i) {
    const Call &call = calls[random() % (i % 3 == 0 ? 5 : calls.size())];
    const std::string expected = rules.expected(call.n, call.out % 16 == 0, call.in % 16 == 0);
    const std::vector<kpk_arg> args = {kpack::detail::arg(out_at(call.out)),
                                       kpack::detail::arg(in_at(call.in)), kpack::detail::arg(call.n)};
    std::string seen;
    switch (random() % 4) {
      case 0:
        seen = run([&] { return kpk_launch(&native(tuned::plain), kStream, args.data(), 3, 0); });
        break;
      case 1:
        seen = run(
            [&] { return bound(kpack::Stream(kStream), out_at(call.out), in_at(call.in), call.n).code(); });
        break;
      default:
        seen = run([&] {
          return tuned::plain(kpack::Stream(kStream), out_at(call.out), in_at(call.in), call.n).code();
        });
    }
    if (seen != expected) {
      check::fail(__FILE__, __LINE__,
                  "n=" + std::to_string(call.n) + " out " + std::to_string(call.out % 16) + " in " +
                      std::to_string(call.in % 16) + ": expected " + expected + ", got " + seen);
    }
  }
  finish();
}

TEST(selected_values_and_ones_are_of_the_key) {
  start();
  const Folder folder;
  const std::string fast = "*fp32,*fp32,i32,i32,fp32;FAST=True";
  // Of calls whose stride is 1 a variant for any stride is the fastest.
  const char *any = "FASTTrue.BLOCK128.w1.a16", *one = "FASTTrue.BLOCK128.w1.a16.one_stride";
  write_file(folder / "t",
             kHead + line(tuned::rows, "n=5 rows=64 16=out_ptr,in_ptr 1=stride", any, kDevice, fast) +
                 line(tuned::rows, "n=6 rows=64 16=out_ptr,in_ptr 1=stride", one, kDevice, fast) +
                 line(tuned::rows, "n=7 rows=64 16=out_ptr,in_ptr", any, kDevice, fast));
  set(KPK_TUNING_USE, folder / "t");
  const auto run_rows = [](int32_t stride, int32_t n, bool is_fast, int64_t count) {
    return run([=] {
      return tuned::rows(kpack::Stream(kStream), out_at(), in_at(), stride, n, 0.5F, is_fast, count).code();
    });
  };
  for (int turn = 0; turn < 4; ++turn) {
    EXPECT_EQ(run_rows(1, 5, true, 60), function_of("rows", any));
    EXPECT_EQ(run_rows(2, 5, true, 60), std::string("rows_FASTTrue_BLOCK64_w1_a16"));
    EXPECT_EQ(run_rows(1, 6, true, 60), function_of("rows", one));
    EXPECT_EQ(run_rows(2, 6, true, 60), std::string("rows_FASTTrue_BLOCK64_w1_a16"));
    EXPECT_EQ(run_rows(2, 7, true, 60), function_of("rows", any));
    EXPECT_EQ(run_rows(1, 7, true, 60), std::string("rows_FASTTrue_BLOCK64_w1_a16_one_stride"));
    EXPECT_EQ(run_rows(1, 5, false, 60),
              std::string("rows_FASTFalse_BLOCK64_w1_a16_one_stride"));                // no alternative
    EXPECT_EQ(run_rows(2, 8, true, 60), std::string("rows_FASTTrue_BLOCK64_w1_a16"));  // by value
    EXPECT_EQ(run_rows(2, 7, true, 65), std::string("rows_FASTTrue_BLOCK64_w1_a16"));
  }
  finish();
}

// ---- Devices

void set_device(int ordinal) {
  void *context = nullptr;
  EXPECT_EQ(cuda.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, ordinal), 0);
  EXPECT_EQ(cuda.entry<int(void *)>("cuCtxSetCurrent")(context), 0);
}

TEST(each_device_has_its_own_entries) {
  start();
  const Folder folder;
  write_file(folder / "t", kHead + line(tuned::plain, key(1024), k256) + line(tuned::plain, key(2048), k128) +
                               line(tuned::plain, key(1024), k128, "sm_80/108"));
  set(KPK_TUNING_USE, folder / "t");
  const auto expect = [](int device, int32_t n) {
    const char *expected = device == 1 ? (n <= 1024 ? k128 : k64) : n <= 1024 ? k256 : n <= 2048 ? k128 : k64;
    set_device(device);
    EXPECT_EQ(run_plain(n), function_of("plain", expected));
  };
  for (int turn = 0; turn < 5; ++turn) {
    for (const int device : {0, 1, 1, 0, 0, 1}) {
      for (const int32_t n : {1000, 2000, 5000, 900}) expect(device, n);
    }
  }
  set_device(0);
  finish();
}

TEST(amd_devices_have_theirs) {
  const fake::Fake hip = fake::open("libamdhip64.so", "hip");
  hip.configure("gfx90a:sramecc+:xnack-,gfx90a:sramecc+:xnack-");
  start();
  const Folder folder;
  write_file(folder / "t", kHead + line(tuned::plain, key(1024), k256, "gfx90a:sramecc+:xnack-/104") +
                               line(tuned::plain, key(2048), k128, "gfx90a:sramecc+:xnack-/104") +
                               line(tuned::plain, key(4096), k128, "gfx90a/104"));
  set(KPK_TUNING_USE, folder / "t");
  const kpk_stream stream = {nullptr, KPK_VENDOR_HIP, 0};
  for (int turn = 0; turn < 8; ++turn) {
    EXPECT_EQ(hip.entry<int(int)>("hipSetDevice")(turn / 2 % 2), 0);
    for (const int32_t n : {1000, 2000, 4000, 800}) {
      CHECK(tuned::plain(kpack::Stream(stream), out_at(), in_at(), n));
      fake_launch made;
      CHECK(hip.launch(hip.launches() - 1, &made) != 0);
      EXPECT_EQ(std::string(made.function), function_of("plain", n == 1000 ? k256 : n == 2000 ? k128 : k64));
      EXPECT_EQ(made.device, turn / 2 % 2);
    }
  }
  EXPECT_EQ(hip.violations(), uint64_t{0});
  finish();
}

// ---- Searches

constexpr int32_t kN = 1000;
constexpr uint64_t kBytes = kN * sizeof(float);

struct Bench {
  Way ways[3];
  float *in = memory(kBytes), *out = memory(kBytes);
  explicit Bench(const std::string &kernel, uint64_t ns64 = 30000, uint64_t ns128 = 20000,
                 uint64_t ns256 = 40000) {
    for (int32_t i = 0; i < kN; ++i) in[i] = static_cast<float>(i), out[i] = -1;
    behave(ways[0], kernel, k64, ns64);
    behave(ways[1], kernel, k128, ns128);
    behave(ways[2], kernel, k256, ns256);
  }
  ~Bench() {
    cuda.entry<int(void *)>("cuMemFree_v2")(in);
    cuda.entry<int(void *)>("cuMemFree_v2")(out);
  }
  bool is_done() const {
    for (int32_t i = 0; i < kN; ++i) {
      if (out[i] != 2 * in[i]) return false;
    }
    return true;
  }
  template <class Kernel>
  std::vector<std::string> launch(const Kernel &kernel, int32_t n = kN) const {
    return all_of(
        [&] { return kernel(kpack::Stream(kStream), out, static_cast<const float *>(in), n).code(); });
  }
};

TEST(tune_mode_finds_the_fastest_once_and_writes_it_down) {
  start();
  const Folder folder;
  set(KPK_TUNING_TUNE, folder / "t");
  Bench bench("plain");
  const std::vector<std::string> first = bench.launch(tuned::plain);
  CHECK(first.size() > 10);
  EXPECT_EQ(first.back(), function_of("plain", k128));
  CHECK(bench.is_done());
  for (int turn = 0; turn < 5; ++turn) {
    const std::vector<std::string> again = bench.launch(tuned::plain, kN - turn);
    EXPECT_EQ(again.size(), size_t{1});
    EXPECT_EQ(again.back(), function_of("plain", k128));
  }
  CHECK(is_packed_plain(kN));
  const std::string text = file_text(folder / "t");
  EXPECT_EQ(count(text, "\n"), 3U);
  CHECK(has(text, std::string(k128) + ",2") && has(text, "n=1024 16=out_ptr,in_ptr"));
  // Another bucket is another search; what is in the file is none.
  CHECK(bench.launch(tuned::plain, 500).size() > 10);
  set(KPK_TUNING_TUNE, folder / "t");
  EXPECT_EQ(bench.launch(tuned::plain).size(), size_t{1});
  EXPECT_EQ(bench.launch(tuned::plain, 500).size(), size_t{1});
  set(KPK_TUNING_USE, folder / "t");
  EXPECT_EQ(bench.launch(tuned::plain).back(), function_of("plain", k128));
  set(KPK_TUNING_USE);
  EXPECT_EQ(bench.launch(tuned::plain).back(), kFixed);
  finish();
}

TEST(what_is_wrong_or_fails_is_left_out_and_stays_so) {
  start();
  const Folder folder;
  set(KPK_TUNING_TUNE, folder / "t");
  Bench bench("plain");
  Way more[3];
  behave(bench.ways[1], "plain", k128, 20000, 100);    // wrong
  behave(bench.ways[2], "plain", k256, 1000, 0, 701);  // fails
  behave(more[0], "plain", "fp32.BLOCK64.w1", 25000);  // the others are slower
  behave(more[1], "plain", "fp32.BLOCK128.w1", 50000);
  behave(more[2], "plain", "fp32.BLOCK256.w1", 50000);
  EXPECT_EQ(bench.launch(tuned::plain).back(), std::string("plain_fp32_BLOCK64_w1"));
  const std::string text = file_text(folder / "t");
  CHECK(has(text, std::string(k128) + ": wrong") && has(text, std::string(k256) + ": failed ("));
  // Found out again, it is not tried again.
  const uint64_t runs = bench.ways[1].runs;
  set(KPK_TUNING_USE, folder / "t");
  std::vector<Told> told;
  const kpk_tune_options again = options(&told, KPK_TUNE_AGAIN);
  EXPECT_EQ(kpack::Kernel(tuned::plain)
                .tune(kpack::Stream(kStream), again, bench.out, static_cast<const float *>(bench.in), kN)
                .code(),
            KPK_OK);
  EXPECT_EQ(bench.ways[1].runs, runs);
  uint32_t left_out = 0;
  for (const Told &each : told)
    left_out += each.outcome == KPK_TRIAL_NOT_RUN && has(each.reason, each.name == k128 ? "wrong" : "failed");
  EXPECT_EQ(left_out, 2U);
  CHECK(has(file_text(folder / "t"), std::string(k128) + ": wrong"));
  finish();
}

TEST(what_cannot_be_tuned_runs_all_the_same) {
  start();
  set(KPK_TUNING_TUNE);
  const Stderr said;
  const auto launch = [] { return tuned::unknown(kpack::Stream(kStream), out_at(), in_at(), kN).code(); };
  for (int turn = 0; turn < 4; ++turn) {
    EXPECT_EQ(only(launch), std::string("unknown_BLOCK64_w1"));
  }
  EXPECT_EQ(count(said.text(), "unknown: not tuned: "), 1U);
  CHECK(has(said.text(), "'out_ptr'"));
  CHECK(is_packed(tuned::unknown, out_at(), in_at(), kN));
  finish();
}

TEST(an_empty_grid_is_not_searched_for) {
  start();
  set(KPK_TUNING_TUNE);
  Bench bench("plain");
  for (int turn = 0; turn < 3; ++turn) CHECK(bench.launch(tuned::plain, 0).empty());
  finish();
}

TEST(a_capture_is_not_tuned_in_and_what_comes_after_is) {
  start();
  set(KPK_TUNING_TUNE);
  Bench bench("plain");
  void *stream = nullptr, *graph = nullptr;
  EXPECT_EQ(cuda.entry<int(void **, unsigned)>("cuStreamCreate")(&stream, 1), 0);
  const auto launch = [&] {
    return tuned::plain(kpack::Stream({stream, KPK_VENDOR_CUDA, 0}), bench.out,
                        static_cast<const float *>(bench.in), kN)
        .code();
  };
  EXPECT_EQ(cuda.entry<int(void *, int)>("cuStreamBeginCapture_v2")(stream, 0), 0);
  {
    const Stderr said;
    for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(only(launch), kFixed);
    EXPECT_EQ(count(said.text(), "plain: not tuned: "), 1U);
  }
  EXPECT_EQ(cuda.entry<int(void *, void **)>("cuStreamEndCapture")(stream, &graph), 0);
  const std::vector<std::string> after = all_of(launch);
  CHECK(after.size() > 10);
  EXPECT_EQ(after.back(), function_of("plain", k128));
  // What is known runs in a capture, too.
  EXPECT_EQ(cuda.entry<int(void *, int)>("cuStreamBeginCapture_v2")(stream, 0), 0);
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(only(launch), function_of("plain", k128));
  EXPECT_EQ(cuda.entry<int(void *, void **)>("cuStreamEndCapture")(stream, &graph), 0);
  EXPECT_EQ(cuda.entry<int(void *)>("cuStreamDestroy_v2")(stream), 0);
  finish();
}

TEST(tuning_by_itself_says_what_it_tried) {
  start();
  const Folder folder;
  set(KPK_TUNING_USE, folder / "t");
  Bench bench("plain");
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(bench.launch(tuned::plain).back(), kFixed);
  CHECK(is_packed_plain(kN));
  const kpack::Kernel plain = tuned::plain;
  std::vector<Told> told;
  const auto tune = [&](uint32_t flags) {
    told.clear();
    const kpk_tune_options given = options(&told, flags);
    return plain.tune(kpack::Stream(kStream), given, bench.out, static_cast<const float *>(bench.in), kN)
        .code();
  };
  EXPECT_EQ(tune(0), KPK_OK);
  EXPECT_EQ(told.size(), size_t{6});
  EXPECT_EQ(told[0].name, std::string(k64));  // the fixed choice
  uint32_t chosen = 0;
  for (const Told &each : told) {
    chosen += each.chosen;
    if (each.chosen != 0) EXPECT_EQ(each.name, std::string(k128));
  }
  EXPECT_EQ(chosen, 1U);
  CHECK(bench.out[5] == 2 * bench.in[5] && has(file_text(folder / "t"), k128));
  // What went by the fixed choice before goes by this now.
  CHECK(!is_packed_plain(kN));
  for (int turn = 0; turn < 3; ++turn)
    EXPECT_EQ(bench.launch(tuned::plain).back(), function_of("plain", k128));
  for (int turn = 0; turn < 3; ++turn) EXPECT_EQ(bench.launch(tuned::plain, 100).back(), kFixed);
  CHECK(is_packed_plain(kN) && is_packed_plain(100));
  // Known, it is not found out again, unless it is asked for.
  EXPECT_EQ(tune(0), KPK_OK);
  EXPECT_EQ(told.size(), size_t{1});
  CHECK(told[0].outcome == KPK_TRIAL_NOT_RUN && told[0].chosen == 1 && told[0].name == k128);
  behave(bench.ways[2], "plain", k256, 5000);
  EXPECT_EQ(tune(KPK_TUNE_AGAIN), KPK_OK);
  for (int turn = 0; turn < 3; ++turn)
    EXPECT_EQ(bench.launch(tuned::plain).back(), function_of("plain", k256));
  finish();
}

TEST(with_a_null_pointer_only_what_is_made_for_one_is_tried) {
  start();
  set(KPK_TUNING_USE);
  const Bench bench("plain");
  const float *bias = nullptr;
  const kpack::Kernel biased = tuned::biased;
  std::vector<Told> told;
  const auto tune = [&] {
    told.clear();
    const kpk_tune_options given = options(&told, KPK_TUNE_AGAIN);
    return biased
        .tune(kpack::Stream(kStream), given, bench.out, static_cast<const float *>(bench.in), kN, bias)
        .code();
  };
  EXPECT_EQ(tune(), KPK_OK);
  EXPECT_EQ(told.size(), size_t{2});
  for (const Told &each : told) CHECK(has(each.name, "none_bias_ptr"));
  bias = bench.in;
  EXPECT_EQ(tune(), KPK_OK);
  EXPECT_EQ(told.size(), size_t{2});
  for (const Told &each : told) CHECK(!has(each.name, "none_bias_ptr"));
  finish();
}

TEST(tuning_refuses_what_it_cannot_do) {
  start();
  const kpack::Kernel plain = tuned::plain;
  kpk_tune_options given = options(nullptr);
  EXPECT_EQ(kpk_tune(nullptr, kStream, nullptr, 0, nullptr), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(kpk_tune(&native(plain), kStream, nullptr, 3, nullptr), KPK_ERROR_ARGUMENT);
  given.size = 8;
  EXPECT_EQ(plain.tune(kpack::Stream(kStream), given, out_at(), in_at(), kN).code(), KPK_ERROR_ARGUMENT);
  given = options(nullptr);
  EXPECT_EQ(plain.tune(kpack::Stream(kStream), given, out_at(), in_at()).code(), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(kpack::Kernel(tuned::unknown).tune(kpack::Stream(kStream), given, out_at(), in_at(), kN).code(),
            KPK_ERROR_ARGUMENT);
  CHECK(has(kpk_message(), "'out_ptr'"));
  EXPECT_EQ(plain.tune(kpack::Stream(kStream), given, out_at(), in_at(), -5).code(), KPK_ERROR_ARGUMENT);
  CHECK(has(kpk_message(), "extent of 'out_ptr'"));
  kpk_use_dry_driver("sm_90", 0);
  EXPECT_EQ(plain.tune(kpack::Stream(kStream), given, out_at(), in_at(), kN).code(), KPK_ERROR_NO_DEVICE);
  EXPECT_EQ(plain(kpack::Stream(kStream), out_at(), in_at(), kN).code(), KPK_DRY);
  kpk_use_dry_driver(nullptr, 0);
  kpk_tuning bad = {sizeof bad, 9, nullptr, nullptr, 0, 0};
  EXPECT_EQ(kpk_set_tuning(&bad), KPK_ERROR_ARGUMENT);
  bad = {4, KPK_TUNING_USE, nullptr, nullptr, 0, 0};
  EXPECT_EQ(kpk_set_tuning(&bad), KPK_ERROR_ARGUMENT);
  finish();
}

TEST(tuning_that_is_off_writes_the_table_and_changes_nothing) {
  start();
  const Folder folder;
  set(KPK_TUNING_OFF, folder / "t");
  Bench bench("plain");
  const kpk_tune_options given = options(nullptr);
  EXPECT_EQ(kpack::Kernel(tuned::plain)
                .tune(kpack::Stream(kStream), given, bench.out, static_cast<const float *>(bench.in), kN)
                .code(),
            KPK_OK);
  CHECK(has(file_text(folder / "t"), k128));
  EXPECT_EQ(bench.launch(tuned::plain).back(), kFixed);
  finish();
}

// ---- Shapes

TEST(record_mode_writes_each_call_once) {
  start();
  const Folder folder;
  const std::string shapes = folder / "shapes.csv";
  set(KPK_TUNING_RECORD, "", shapes);
  const auto launch = [](int32_t n, float scale, uintptr_t out) {
    run([=] {
      return tuned::rows(kpack::Stream(kStream), out_at(out), in_at(), 3, n, scale, true, 7).code();
    });
  };
  for (int turn = 0; turn < 3; ++turn) {
    launch(5, 0.5F, 0x1000), launch(5, 2, 0x1000), launch(6, 2, 0x1000), launch(5, 2, 0x1004),
        launch(5, 2, 0x71000);
    run_plain(1000);
  }
  const std::string expected =
      "# kpack shapes 1\nkernel,call\n"
      "rows,out_ptr=*fp32:256 in_ptr=*fp32:256 stride=3 n=5 scale=0.5 FAST=true rows=7\n"
      "rows,out_ptr=*fp32:256 in_ptr=*fp32:256 stride=3 n=6 scale=2.0 FAST=true rows=7\n"
      "rows,out_ptr=*fp32:4 in_ptr=*fp32:256 stride=3 n=5 scale=2.0 FAST=true rows=7\n"
      "plain,out_ptr=*fp32:256 in_ptr=*fp32:256 n=1000\n";
  EXPECT_EQ(file_text(shapes), expected);
  // Another process, which knows only the file, and finds a row that a crash has cut.
  write_file(shapes, expected + "plain,out_ptr=*fp");
  set(KPK_TUNING_RECORD, "", shapes);
  launch(5, 0.5F, 0x1000), run_plain(1000), run_plain(2000);
  EXPECT_EQ(file_text(shapes),
            expected + "plain,out_ptr=*fp\nplain,out_ptr=*fp32:256 in_ptr=*fp32:256 n=2000\n");
  set(KPK_TUNING_USE);
  run_plain(3000);
  EXPECT_EQ(count(file_text(shapes), "3000"), 0U);
  for (int turn = 0; turn < 3; ++turn) run_plain(1000);
  CHECK(is_packed_plain(1000));
  finish();
}

TEST(a_file_that_cannot_be_written_is_said_once) {
  start();
  set(KPK_TUNING_RECORD, "", "/nowhere/shapes.csv");
  const Stderr said;
  for (int turn = 0; turn < 3; ++turn) run_plain(1000 + turn);
  EXPECT_EQ(
      count(said.text(), "kpack: /nowhere/shapes.csv: expected to write calls down there, got: No such file"),
      1U);
  finish();
}

// ---- The environment, and words

TEST(the_environment_says_how) {
  start();
  const Folder folder;
  write_file(folder / "t", kHead + line(tuned::plain, key(1024), k256));
  setenv("KPACK_TUNING_TABLE", (folder / "t").c_str(), 1);
  EXPECT_EQ(kpk_set_tuning(nullptr), KPK_OK);
  EXPECT_EQ(run_plain(1000), function_of("plain", k256));
  setenv("KPACK_TUNING", "off", 1);
  EXPECT_EQ(kpk_set_tuning(nullptr), KPK_OK);
  EXPECT_EQ(run_plain(1000), kFixed);
  setenv("KPACK_TUNING", "fast", 1);
  setenv("KPACK_TUNING_BUDGET_MS", "2s", 1);
  {
    const Stderr said;
    EXPECT_EQ(kpk_set_tuning(nullptr), KPK_OK);
    EXPECT_EQ(said.text(),
              std::string(
                  "kpack: KPACK_TUNING: expected off, use, tune or record, got 'fast': taken as use\n"
                  "kpack: KPACK_TUNING_BUDGET_MS: expected milliseconds, got '2s': taken as the default\n"));
  }
  EXPECT_EQ(run_plain(1000), function_of("plain", k256));
  for (const char *name : {"KPACK_TUNING", "KPACK_TUNING_TABLE", "KPACK_TUNING_BUDGET_MS"}) unsetenv(name);
  finish();
}

TEST(explain_says_what_was_tuned_and_from_where) {
  start();
  const Folder folder;
  write_file(folder / "t", kHead + line(tuned::plain, key(1024), k256) + line(tuned::cut, key(1024), k128));
  set(KPK_TUNING_USE, folder / "t");
  const auto explain = [](const kpack::Kernel &kernel, int32_t n) {
    return kernel.explain(kpack::cuda_device(0), out_at(), in_at(), n);
  };
  const std::string tuned = explain(tuned::plain, 1000);
  CHECK(has(tuned, "plain on sm_90: runs fp32.BLOCK256.w1.a16, "));
  CHECK(has(tuned, "\ntuned, from the table file, for n=1024 16=out_ptr,in_ptr on sm_90/132\n"));
  CHECK(has(tuned, "fp32.BLOCK64.w1.a16: eligible, but tuning found another\n"));
  const std::string open = explain(tuned::plain, 2000);
  CHECK(has(open, "runs fp32.BLOCK64.w1.a16, ") &&
        has(open, "\nnot tuned for n=2048 16=out_ptr,in_ptr on sm_90/132\n"));
  CHECK(has(open, "fp32.BLOCK256.w1.a16: eligible, but after the chosen one"));
  const std::string other = explain(tuned::cut, 1000);
  CHECK(has(other, "runs fp32.BLOCK64.w1.a16, "));
  CHECK(has(other, "on sm_90/132 to fp32.BLOCK128.w1.a16, which may not run this call\n"));
  set(KPK_TUNING_USE);
  CHECK(!has(explain(tuned::plain, 1000), "tuned"));
  finish();
}

}  // namespace

int main(int count, char **arguments) {
  setenv("KPACK_LOG", "info", 1);  // read once; most of what it says is of loads
  cuda = fake::open("libcuda.so.1", "cuda");
  cuda.configure("sm_90,sm_80");
  cuda.entry<int(unsigned)>("cuInit")(0);
  return check::run(count > 1 ? arguments[1] : "");
}
