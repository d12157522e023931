// Searches on the fake drivers, CUDA and HIP: kernels do what the test says, to memory that is the host's, and take
// as long as it says, in the fakes' own time.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <kpack/kpack.hpp>
#include <string>
#include <vector>

#include "check.h"
#include "driver.h"
#include "fake.h"
#include "tune/compare.h"
#include "tune/numbers.h"
#include "tune/search.h"
#include "types.h"

extern "C" {
extern const kpk_kernel kpack_kernel_contenders_first __attribute__((visibility("hidden")));
extern const kpk_kernel kpack_kernel_contenders_second __attribute__((visibility("hidden")));
extern const kpk_kernel kpack_kernel_contenders_third __attribute__((visibility("hidden")));
extern const kpk_kernel kpack_kernel_contenders_fourth __attribute__((visibility("hidden")));
}

namespace {

constexpr uint64_t kMs = 1000000;  // ns
constexpr int kOutOfMemory = 2, kIllegalAddress = 700, kLaunchOutOfResources = 701;
constexpr int32_t kCount = 1000;
constexpr uint64_t kBytes = kCount * sizeof(float);

bool says(const char *part) { return std::strstr(kpk_message(), part) != nullptr; }

// ---- A machine of either vendor -----------------------------------------------------------------------

struct Machine {
  fake::Fake fake;
  int32_t vendor;
  const char *allocate, *release, *create_stream, *destroy_stream, *begin_capture, *end_capture;

  const kpk::Device &device() const {
    return *(vendor == KPK_VENDOR_HIP ? kpk::hip_device(0) : kpk::cuda_device(0));
  }
  bool is_hip() const { return vendor == KPK_VENDOR_HIP; }
  uint64_t memory(uint64_t bytes) const {
    uint64_t address = 0;
    EXPECT_EQ(fake.entry<int(uint64_t *, size_t)>(allocate)(&address, bytes), 0);
    return address;
  }
  void free(uint64_t address) const { EXPECT_EQ(fake.entry<int(uint64_t)>(release)(address), 0); }
  void *stream() const {
    void *out = nullptr;
    EXPECT_EQ(fake.entry<int(void **, unsigned)>(create_stream)(&out, 1), 0);
    return out;
  }
  void free_stream(void *stream) const { EXPECT_EQ(fake.entry<int(void *)>(destroy_stream)(stream), 0); }
  void capture(void *stream) const { EXPECT_EQ(fake.entry<int(void *, int)>(begin_capture)(stream, 0), 0); }
  int capture_ends(void *stream) const {
    void *graph = nullptr;
    return fake.entry<int(void *, void **)>(end_capture)(stream, &graph);
  }
};
Machine cuda, hip;
Machine *const machines[] = {&cuda, &hip};

void start(const Machine &machine) {
  for (const kpack::Kernel &kernel : kpack::linked_kernels()) kpk_unload(&kernel.native());
  machine.fake.reset();
  if (machine.is_hip()) {
    machine.fake.entry<int(int)>("hipSetDevice")(0);
    return;
  }
  void *context = nullptr;
  machine.fake.entry<int(void **, int)>("cuDevicePrimaryCtxRetain")(&context, 0);
  machine.fake.entry<int(void *)>("cuCtxSetCurrent")(context);
}

void finish(const Machine &machine) {
  for (uint64_t i = 0; i < machine.fake.violations(); ++i) {
    std::printf("  violation: %s\n", machine.fake.violation(i));
  }
  EXPECT_EQ(machine.fake.violations(), uint64_t{0});
  EXPECT_EQ(machine.fake.live("memory"), uint64_t{0});
  EXPECT_EQ(machine.fake.live("event"), uint64_t{0});
}

// ---- What contenders do -------------------------------------------------------------------------------

const kpk_kernel *const kernels[] = {&kpack_kernel_contenders_first, &kpack_kernel_contenders_second,
                                     &kpack_kernel_contenders_third, &kpack_kernel_contenders_fourth};
constexpr const char *names[] = {"first", "second", "third", "fourth"};
constexpr const char *functions[] = {"first_BLOCK128_w1", "second_BLOCK128_w1", "third_BLOCK128_w1",
                                     "fourth_BLOCK128_w1"};

// out[i] = 2 * in[i], but for what is planted.
struct Twice {
  int32_t wrong_at = -1;  // this one is off
  float off = 1;          // by so much
  bool writes = true;     // or it writes nothing at all
  int32_t past_end = 0;   // floats behind the last one that it writes, too
  bool ruins_input = false;
  uint64_t runs = 0, misplaced = 0, stale = 0;
  float first = 0;  // of the input, as the call has it
  uint64_t out_modulo = 0, in_modulo = 0;
  bool in_place = false;

  static void run(void *user, const fake_launch *launch) {
    auto &self = *static_cast<Twice *>(user);
    const auto to = fake::argument<uint64_t>(*launch, 0), from = fake::argument<uint64_t>(*launch, 1);
    auto *out = reinterpret_cast<float *>(to);
    auto *in = reinterpret_cast<float *>(from);
    const auto n = fake::argument<int32_t>(*launch, 2);
    ++self.runs;
    self.stale += in[0] != self.first;
    self.misplaced +=
        to % 256 != self.out_modulo || from % 256 != self.in_modulo || (to == from) != self.in_place;
    if (!self.writes) return;
    for (int32_t i = 0; i < n; ++i) out[i] = 2 * in[i] + (i == self.wrong_at ? self.off : 0);
    for (int32_t i = n; i < n + self.past_end; ++i) out[i] = -1;
    if (self.ruins_input && !self.in_place) in[0] = 1e6f;
  }
};

// A contender that is a kernel.
struct Way {
  const kpk_kernel *kernel;
  int32_t vendor;

  static kpk_status run(void *self, void *stream, const kpk_arg *args, uint32_t count) {
    const auto &way = *static_cast<Way *>(self);
    return kpk_launch(way.kernel, {stream, way.vendor, 0}, args, count, 0);
  }
};

struct Told {
  std::string name, reason;
  uint32_t outcome, samples, chosen;
  double median_us;
};

kpk_arg pointer(uint64_t address, uint8_t type, bool is_const) {
  const auto flags = static_cast<uint8_t>(is_const ? KPK_PARAM_CONST : 0);
  return {address, static_cast<uint8_t>(KPK_POINTER | type), flags, 0, 0};
}
kpk_arg integer(int64_t value) { return {static_cast<uint64_t>(value), KPK_I32, 0, 0, 0}; }

// A call out = 2 * in, on memory of its own, and four ways to do it.
struct Trying {
  const Machine &machine;
  void *stream;
  std::vector<uint64_t> blocks;
  std::vector<Twice> twice{4};
  std::vector<Way> ways;
  std::vector<kpk::Contender> contenders;
  std::vector<kpk_arg> args;
  std::vector<kpk::Region> regions;
  kpk::SearchRequest request{};
  kpk::SearchResult result{};
  std::vector<Told> told;
  std::vector<int> journal;  // i + 1 before the first run of contender i, -i - 1 after it

  explicit Trying(const Machine &on, uint64_t out_modulo = 0, uint64_t in_modulo = 16)
      : machine(on), stream(on.stream()) {
    const uint64_t out = block(out_modulo), in = block(in_modulo);
    call(out, in);
    for (int i = 0; i < 4; ++i) ways.push_back({kernels[i], machine.vendor});
    for (size_t i = 0; i < 4; ++i) {
      contenders.push_back({names[i], &ways[i], Way::run, false, nullptr});
      takes(i, 10000 * (i + 1));
    }
    kpk::Place place{};
    void *before = nullptr;
    const kpk::Driver &driver = *machine.device().driver;
    EXPECT_EQ(driver.enter(stream, "test", &place, &before), KPK_OK);
    driver.leave(before);
    request.device = place.device;
    request.context = place.context;
    request.stream = stream;
    request.subject = "twice";
    request.user = this;
    request.before = [](void *user, uint32_t i) {
      static_cast<Trying *>(user)->journal.push_back(static_cast<int>(i) + 1);
    };
    request.after = [](void *user, uint32_t i) {
      static_cast<Trying *>(user)->journal.push_back(-static_cast<int>(i) - 1);
    };
    request.sink = [](void *user, const kpk_trial *trial) {
      static_cast<Trying *>(user)->told.push_back(
          {trial->name, trial->reason, trial->outcome, trial->samples, trial->chosen, trial->median_us});
    };
    request.now_ns = machine.is_hip() ? +[] { return hip.fake.live("host_ns"); }
                                      : +[] { return cuda.fake.live("host_ns"); };
  }
  ~Trying() {  // a failure may be on its way
    for (const uint64_t address : blocks) machine.fake.entry<int(uint64_t)>(machine.release)(address);
    machine.fake.entry<int(void *)>(machine.destroy_stream)(stream);
  }
  Trying(const Trying &) = delete;
  Trying &operator=(const Trying &) = delete;

  // An address in memory of its own, in which there is something.
  uint64_t block(uint64_t modulo) {
    const uint64_t address = machine.memory(kBytes + 512);
    blocks.push_back(address);
    auto *floats = reinterpret_cast<float *>(address);
    for (int32_t i = 0; i < kCount + 128; ++i) floats[i] = static_cast<float>(i % 77) - 30;
    return address + (256 - address % 256) % 256 + modulo;
  }
  void call(uint64_t out, uint64_t in) {
    args = {pointer(out, KPK_FP32, false), pointer(in, KPK_FP32, true), integer(kCount)};
    regions = {{kBytes, KPK_DIRECTION_OUT, true, "out_ptr"},
               {kBytes, KPK_DIRECTION_IN, false, "in_ptr"},
               {0, 0, false, "n"}};
    for (Twice &way : twice) {
      way.out_modulo = out % 256;
      way.in_modulo = in % 256;
      way.in_place = out == in;
      if (in >= 4096) way.first = *reinterpret_cast<const float *>(in);
    }
  }
  void takes(size_t way, uint64_t ns, int error = 0, int breaks = 0) {
    const fake_kernel kernel = {ns, error, breaks, Twice::run, &twice[way]};
    machine.fake.kernel(functions[way], &kernel);
  }
  kpk_status search() {
    request.args = args.data();
    request.count = static_cast<uint32_t>(args.size());
    request.regions = regions.data();
    request.contenders = contenders.data();
    request.contender_count = static_cast<uint32_t>(contenders.size());
    told.clear();
    journal.clear();
    return kpk::search(request, &result);
  }
  std::string memory() const {
    std::string all;
    for (const uint64_t address : blocks) {
      all.append(reinterpret_cast<const char *>(address), kBytes + 512);
    }
    return all;
  }
};

#define EXPECT_OK(status)                                \
  do {                                                   \
    const kpk_status expected_ok = (status);             \
    if (expected_ok != KPK_OK) std::puts(kpk_message()); \
    EXPECT_EQ(expected_ok, KPK_OK);                      \
  } while (false)

// ---- Choosing -----------------------------------------------------------------------------------------

TEST(the_fastest_is_chosen_and_the_callers_memory_stays_as_it_was) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      trying.takes(0, 30000);
      trying.takes(2, 9000);
      const std::string before = trying.memory();
      EXPECT_OK(trying.search());
      EXPECT_EQ(trying.result.best, 2u);
      CHECK(std::fabs(trying.result.best_us - 9) < 0.5);
      CHECK(std::fabs(trying.result.fixed_us - 30) < 0.6);
      CHECK(trying.memory() == before);
      EXPECT_EQ(trying.told.size(), size_t{4});
      EXPECT_EQ(trying.told[2].chosen, 1u);
      EXPECT_EQ(trying.told[2].outcome, uint32_t{KPK_TRIAL_TIMED});
      CHECK(trying.told[2].samples >= 8);
      EXPECT_EQ(trying.told[3].outcome, uint32_t{KPK_TRIAL_PRUNED});
      EXPECT_EQ(trying.told[3].chosen, 0u);
      CHECK((trying.journal == std::vector<int>{1, -1, 2, -2, 3, -3, 4, -4}));
    }
    finish(*machine);
  }
}

TEST(two_microseconds_are_told_from_a_few_percent_more) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      for (size_t i = 0; i < 4; ++i) trying.takes(i, 2000 + 60 * (3 - i));
      EXPECT_OK(trying.search());
      EXPECT_EQ(trying.result.best, 3u);
    }
    finish(*machine);
  }
}

TEST(addresses_keep_their_place_modulo_256) {
  for (const Machine *machine : machines) {
    for (const uint64_t modulo : {uint64_t{0}, uint64_t{4}, uint64_t{16}, uint64_t{128}, uint64_t{252}}) {
      start(*machine);
      {
        Trying trying(*machine, modulo, 256 - 16 - modulo / 4 * 4 % 128);
        EXPECT_OK(trying.search());
        for (const Twice &way : trying.twice) EXPECT_EQ(way.misplaced, uint64_t{0});
        CHECK(trying.twice[0].runs > 8);
      }
      finish(*machine);
    }
  }
}

TEST(a_call_in_place_stays_in_place_and_each_run_finds_what_was_there) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      trying.call(trying.args[0].bits, trying.args[0].bits);
      const std::string before = trying.memory();
      EXPECT_OK(trying.search());
      for (const Twice &way : trying.twice) {
        EXPECT_EQ(way.misplaced, uint64_t{0});
        EXPECT_EQ(way.stale, uint64_t{0});
        CHECK(way.runs > 8);
      }
      for (const Told &told : trying.told) CHECK(told.outcome <= KPK_TRIAL_PRUNED);
      EXPECT_EQ(trying.result.best, 0u);
      CHECK(trying.memory() == before);
    }
    finish(*machine);
  }
}

// Shifted by one element: a contender that goes from the front reads what it has written.
TEST(what_overlaps_in_part_does_so_in_the_copies) {
  start(cuda);
  {
    Trying trying(cuda);
    const uint64_t in = trying.args[0].bits;
    trying.call(in + sizeof(float), in);
    trying.regions[0].direction = KPK_DIRECTION_UNKNOWN;
    EXPECT_OK(trying.search());
    for (const Told &told : trying.told) CHECK(told.outcome <= KPK_TRIAL_PRUNED);
    CHECK(trying.memory().size() != 0);
  }
  finish(cuda);
}

TEST(a_pointer_without_extent_goes_with_the_copy_that_it_points_into) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.call(trying.args[0].bits, trying.args[0].bits);
    trying.regions[0].direction = KPK_DIRECTION_INOUT;
    trying.regions[1].bytes = 0;
    EXPECT_OK(trying.search());
    for (const Twice &way : trying.twice) EXPECT_EQ(way.misplaced, uint64_t{0});
  }
  finish(cuda);
}

TEST(an_exhaustive_search_times_everybody_to_the_end) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.takes(3, 200000);
    trying.request.flags = KPK_TUNE_EXHAUSTIVE;
    EXPECT_OK(trying.search());
    for (const Told &told : trying.told) EXPECT_EQ(told.samples, 60u);
    EXPECT_EQ(trying.result.best, 0u);
  }
  finish(cuda);
}

// ---- Wrong, failing, left out -------------------------------------------------------------------------

TEST(a_wrong_result_is_caught) {
  for (const Machine *machine : machines) {
    for (const size_t wrong : {size_t{0}, size_t{1}, size_t{3}}) {
      start(*machine);
      {
        Trying trying(*machine);
        trying.takes(wrong, 1000);  // and the fastest
        trying.twice[wrong].wrong_at = kCount - 1;
        EXPECT_OK(trying.search());
        EXPECT_EQ(trying.told[wrong].outcome, uint32_t{KPK_TRIAL_WRONG});
        EXPECT_EQ(
            trying.told[wrong].reason,
            std::string("output 'out_ptr': 1 of 1000 elements differ, of element 999 expected -56, got -55"));
        EXPECT_EQ(trying.result.best, wrong == 0 ? 1u : 0u);
        if (wrong == 0) EXPECT_EQ(trying.result.fixed_us, 0.0);
      }
      finish(*machine);
    }
  }
}

TEST(of_two_that_disagree_the_earlier_is_right) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.contenders.resize(2);
    trying.takes(1, 1000);
    trying.twice[1].wrong_at = 0;
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.told[1].outcome, uint32_t{KPK_TRIAL_WRONG});
    EXPECT_EQ(trying.result.best, 0u);
  }
  finish(cuda);
}

// The memory that the caller gives for the result may hold it already.
TEST(a_contender_that_writes_nothing_is_wrong) {
  start(cuda);
  {
    Trying trying(cuda);
    const auto *in = reinterpret_cast<const float *>(trying.args[1].bits);
    auto *out = reinterpret_cast<float *>(trying.args[0].bits);
    for (int32_t i = 0; i < kCount; ++i) out[i] = 2 * in[i];
    trying.twice[0].writes = false;
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.told[0].outcome, uint32_t{KPK_TRIAL_WRONG});
  }
  finish(cuda);
}

TEST(roundings_are_no_error_and_tolerance_can_be_changed) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.twice[1].wrong_at = 20;
    trying.twice[1].off = 0.01f;
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.told[1].outcome, uint32_t{KPK_TRIAL_TIMED} + 1);
    trying.request.tolerance = 0.01;
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.told[1].outcome, uint32_t{KPK_TRIAL_WRONG});
  }
  finish(cuda);
}

TEST(what_lies_behind_an_extent_is_neither_compared_nor_the_callers) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.twice[1].past_end = 4;
    const std::string before = trying.memory();
    EXPECT_OK(trying.search());
    CHECK(trying.told[1].outcome != KPK_TRIAL_WRONG);
    CHECK(trying.memory() == before);
  }
  finish(cuda);
}

TEST(what_a_contender_did_to_its_input_harms_no_other) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.twice[0].ruins_input = true;
    const std::string before = trying.memory();
    EXPECT_OK(trying.search());
    for (const Told &told : trying.told) CHECK(told.outcome != KPK_TRIAL_WRONG);
    CHECK(trying.memory() == before);
  }
  finish(cuda);
}

// Somebody else may be at work on the caller's memory.
TEST(what_is_read_is_as_it_was_when_the_search_began) {
  start(cuda);
  {
    Trying trying(cuda);
    static float *in;
    in = reinterpret_cast<float *>(trying.args[1].bits);
    const float before = in[7];
    trying.contenders[0].run = [](void *self, void *stream, const kpk_arg *args, uint32_t count) {
      in[7] += 1;
      return Way::run(self, stream, args, count);
    };
    EXPECT_OK(trying.search());
    for (const Told &told : trying.told) CHECK(told.outcome != KPK_TRIAL_WRONG);
    CHECK(in[7] > before + 1);
  }
  finish(cuda);
}

TEST(where_all_disagree_the_first_is_right) {
  start(cuda);
  {
    Trying trying(cuda);
    struct Alone {
      float value;
      static kpk_status run(void *self, void *, const kpk_arg *args, uint32_t) {
        auto *out = reinterpret_cast<float *>(args[0].bits);
        for (int32_t i = 0; i < kCount; ++i) out[i] = static_cast<Alone *>(self)->value;
        return KPK_OK;
      }
    };
    std::vector<Alone> alone;
    for (int i = 0; i < 12; ++i) alone.push_back({static_cast<float>(i + 1) * 10});
    trying.contenders.clear();
    for (Alone &each : alone) trying.contenders.push_back({"alone", &each, Alone::run, false, nullptr});
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.result.best, 0u);
    for (size_t i = 1; i < 12; ++i) {
      EXPECT_EQ(trying.told[i].outcome, uint32_t{KPK_TRIAL_WRONG});
      CHECK(trying.told[i].reason.find("expected 10, got " + std::to_string(10 * (i + 1))) !=
            std::string::npos);
    }
  }
  finish(cuda);
}

TEST(who_fails_is_skipped_and_the_reason_is_told) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      trying.takes(0, 1000, kLaunchOutOfResources);
      trying.contenders[1].run = [](void *, void *, const kpk_arg *, uint32_t) { return KPK_ERROR_LIMIT; };
      EXPECT_OK(trying.search());
      EXPECT_EQ(trying.told[0].outcome, uint32_t{KPK_TRIAL_FAILED});
      CHECK(trying.told[0].reason.find("(701)") != std::string::npos);
      EXPECT_EQ(trying.told[1].outcome, uint32_t{KPK_TRIAL_FAILED});
      EXPECT_EQ(trying.told[1].reason, std::string("KPK_ERROR_LIMIT"));
      EXPECT_EQ(trying.result.best, 2u);
      EXPECT_EQ(trying.result.fixed_us, 0.0);
    }
    finish(*machine);
  }
}

TEST(who_fails_when_waited_for_is_skipped) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.contenders[1].run = [](void *, void *, const kpk_arg *, uint32_t) {
      cuda.fake.fail("cuStreamSynchronize", 719, 0, 1);
      return KPK_OK;
    };
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.told[1].outcome, uint32_t{KPK_TRIAL_FAILED});
    CHECK(trying.told[1].reason.find("CUDA_ERROR_LAUNCH_FAILED (719)") != std::string::npos);
    EXPECT_EQ(trying.result.best, 0u);
  }
  finish(cuda);
}

TEST(where_all_fail_the_first_reason_is_told) {
  start(cuda);
  {
    Trying trying(cuda);
    for (size_t i = 0; i < 4; ++i) trying.takes(i, 1000, kLaunchOutOfResources);
    EXPECT_EQ(trying.search(), KPK_ERROR_NO_VARIANT);
    CHECK(says("twice: tuning: none of 4 contenders can run: first.BLOCK128"));
    EXPECT_EQ(trying.told.size(), size_t{4});
  }
  finish(cuda);
}

TEST(who_is_left_out_is_not_run) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.contenders[0].left_out = true;
    trying.contenders[0].left_out_reason = "crashed";
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.twice[0].runs, uint64_t{0});
    EXPECT_EQ(trying.told[0].outcome, uint32_t{KPK_TRIAL_NOT_RUN});
    EXPECT_EQ(trying.told[0].reason, std::string("crashed"));
    EXPECT_EQ(trying.result.best, 1u);
    EXPECT_EQ(trying.journal[0], 2);
    for (kpk::Contender &contender : trying.contenders) contender.left_out = true;
    EXPECT_EQ(trying.search(), KPK_ERROR_NO_VARIANT);
    CHECK(says("all are left out"));
  }
  finish(cuda);
}

TEST(a_context_that_a_contender_breaks_ends_the_search_with_its_name) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      trying.takes(1, 1000, 0, kIllegalAddress);
      EXPECT_EQ(trying.search(), KPK_ERROR_DRIVER);
      CHECK(says("twice: tuning: 'second' has left the device's context unusable"));
      CHECK(says("(700)"));
      EXPECT_EQ(kpk_driver_code(), kIllegalAddress);
      EXPECT_EQ(trying.told.size(), size_t{4});
      EXPECT_EQ(trying.told[1].outcome, uint32_t{KPK_TRIAL_FAILED});
      EXPECT_EQ(trying.told[2].outcome, uint32_t{KPK_TRIAL_NOT_RUN});
      CHECK((trying.journal == std::vector<int>{1, -1, 2}));  // who reads the journal later knows
      machine->fake.reset();
      for (const uint64_t address : trying.blocks) machine->free(address);
      trying.blocks.clear();
    }
    machine->fake.configure(machine->is_hip() ? "gfx90a:sramecc+:xnack-,gfx1100" : "sm_90");
    if (!machine->is_hip()) machine->fake.entry<int(unsigned)>("cuInit")(0);
  }
}

// ---- Budget -------------------------------------------------------------------------------------------

TEST(the_budget_holds_with_a_slow_contender) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      trying.takes(1, 20 * kMs);
      trying.request.budget_ns = 60 * kMs;
      const uint64_t before = machine->fake.live("host_ns");
      EXPECT_OK(trying.search());
      const uint64_t spent = machine->fake.live("host_ns") - before;
      CHECK(spent < 60 * kMs);
      EXPECT_EQ(trying.result.best, 0u);
      EXPECT_EQ(trying.told[1].outcome, uint32_t{KPK_TRIAL_PRUNED});
      EXPECT_EQ(trying.twice[1].runs, uint64_t{1});
    }
    finish(*machine);
  }
}

TEST(the_budget_ends_sampling) {
  start(cuda);
  {
    Trying trying(cuda);
    for (size_t i = 0; i < 4; ++i) trying.takes(i, kMs + 1000 * (4 - i));
    trying.request.budget_ns = 40 * kMs;
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.result.best, 3u);
    CHECK(cuda.fake.live("host_ns") < 40 * kMs);
    CHECK(cuda.fake.live("host_ns") > 36 * kMs);
  }
  finish(cuda);
}

TEST(a_budget_that_runs_out_takes_the_best_of_those_timed) {
  start(cuda);
  {
    Trying trying(cuda);
    for (size_t i = 0; i < 4; ++i) trying.takes(i, (13 - i) * kMs);
    // First runs take 46 ms; then there is time for two probes.
    trying.request.budget_ns = 80 * kMs;
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.result.best, 1u);
    CHECK(std::fabs(trying.result.best_us - 12000) < 100);
    EXPECT_EQ(trying.told[3].outcome, uint32_t{KPK_TRIAL_NOT_RUN});
    EXPECT_EQ(trying.told[3].reason, std::string("out of budget before it was timed"));
    CHECK(cuda.fake.live("host_ns") < 80 * kMs);
  }
  finish(cuda);
}

TEST(without_time_to_measure_the_fixed_choice_stays) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.takes(0, 50 * kMs);
    trying.request.budget_ns = 30 * kMs;
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.result.best, 0u);
    EXPECT_EQ(trying.result.best_us, 0.0);
    EXPECT_EQ(trying.told[1].reason, std::string("out of budget before its first run"));
    trying.request.budget_ns = 1;
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.result.best_us, 0.0);
    EXPECT_EQ(trying.twice[0].runs, uint64_t{1});
  }
  finish(cuda);
}

// Launching takes it four times as long as running: the device must not wait for the host.
TEST(a_slow_host_is_given_a_longer_lead) {
  start(cuda);
  {
    Trying trying(cuda);
    static void *event;
    EXPECT_EQ(cuda.fake.entry<int(void **, unsigned)>("cuEventCreate")(&event, 0), 0);
    trying.takes(0, 6000);
    trying.takes(1, 3000);
    trying.contenders[1].run = [](void *self, void *stream, const kpk_arg *args, uint32_t count) {
      for (int i = 0; i < 20; ++i) cuda.fake.entry<int(void *, void *)>("cuEventRecord")(event, stream);
      return Way::run(self, stream, args, count);
    };
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.result.best, 1u);
    CHECK(std::fabs(trying.result.best_us - 3) < 0.1);
    cuda.fake.entry<int(void *)>("cuEventDestroy_v2")(event);
  }
  finish(cuda);
}

TEST(a_contender_that_waits_for_the_device_is_measured_all_the_same) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.contenders[1].run = [](void *self, void *stream, const kpk_arg *args, uint32_t count) {
      const kpk_status status = Way::run(self, stream, args, count);
      cuda.fake.entry<int(void *)>("cuStreamSynchronize")(stream);
      return status;
    };
    trying.takes(1, 5000);
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.result.best, 1u);
  }
  finish(cuda);
}

// ---- Refusals -----------------------------------------------------------------------------------------

TEST(a_capture_is_refused_and_stays_valid) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      machine->capture(trying.stream);
      EXPECT_EQ(trying.search(), KPK_ERROR_STREAM);
      CHECK(says("twice: tuning: expected a stream that is not capturing"));
      EXPECT_EQ(trying.told.size(), size_t{4});
      EXPECT_EQ(machine->capture_ends(trying.stream), 0);
      EXPECT_EQ(trying.twice[0].runs, uint64_t{0});
    }
    finish(*machine);
  }
}

TEST(the_capture_of_another_stream_is_not_disturbed) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      void *other = machine->stream();
      EXPECT_OK(trying.search());  // loads
      machine->capture(other);
      EXPECT_OK(trying.search());
      EXPECT_EQ(machine->capture_ends(other), 0);
      machine->free_stream(other);
    }
    finish(*machine);
  }
}

TEST(the_default_stream_beside_a_capture_is_refused) {
  start(cuda);
  {
    Trying trying(cuda);
    void *blocking = nullptr;
    cuda.fake.entry<int(void **, unsigned)>("cuStreamCreate")(&blocking, 0);
    cuda.capture(blocking);
    trying.request.stream = nullptr;
    EXPECT_EQ(trying.search(), KPK_ERROR_STREAM);
    EXPECT_EQ(cuda.capture_ends(blocking), 0);
    cuda.free_stream(blocking);
  }
  finish(cuda);
}

TEST(a_written_pointer_without_extent_is_refused_by_name) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      trying.regions[0].bytes = 0;
      EXPECT_EQ(trying.search(), KPK_ERROR_ARGUMENT);
      EXPECT_EQ(
          std::string(kpk_message()),
          std::string("twice: tuning: argument 1 'out_ptr' is written: expected its extent, to work on a "
                      "copy, got none: write args={\"out_ptr\": kpack.out(bytes=\"...\")}, or tune on memory "
                      "that may be overwritten (KPK_TUNE_SCRATCH)"));
      EXPECT_EQ(trying.twice[0].runs, uint64_t{0});
      trying.request.flags = KPK_TUNE_SCRATCH;
      trying.twice[1].wrong_at = 0;  // nobody can tell
      EXPECT_OK(trying.search());
      EXPECT_EQ(trying.result.best, 0u);
      CHECK(trying.told[1].outcome != KPK_TRIAL_WRONG);
      const auto *in = reinterpret_cast<const float *>(trying.args[1].bits);
      EXPECT_EQ(reinterpret_cast<const float *>(trying.args[0].bits)[5], 2 * in[5]);
    }
    finish(*machine);
  }
}

TEST(a_null_pointer_needs_no_extent) {
  start(cuda);
  {
    Trying trying(cuda);
    trying.args.push_back(pointer(0, KPK_FP32, false));
    trying.regions.push_back({0, KPK_DIRECTION_OUT, true, "optional"});
    for (kpk::Contender &contender : trying.contenders) {
      contender.run = [](void *self, void *stream, const kpk_arg *args, uint32_t) {
        return args[3].bits != 0 ? KPK_ERROR_ARGUMENT : Way::run(self, stream, args, 3);
      };
    }
    EXPECT_OK(trying.search());
  }
  finish(cuda);
}

TEST(a_copy_that_does_not_fit_is_refused_with_its_bytes) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      machine->fake.option("memory", 140000);
      EXPECT_EQ(trying.search(), KPK_ERROR_MEMORY);
      // 4000 bytes out, twice 16 + 4000 in, each up to a multiple of 256, and twice the cache.
      CHECK(says("twice: tuning: expected 143360 bytes of free device memory"));
      CHECK(says("got 130976"));
      EXPECT_EQ(trying.twice[0].runs, uint64_t{0});
    }
    finish(*machine);
  }
}

TEST(fewer_copies_do_where_memory_is_short) {
  start(cuda);
  {
    Trying trying(cuda);
    for (size_t i = 0; i < 4; ++i) trying.takes(i, 1000 + 500 * i);
    cuda.fake.option("memory", 170000);
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.result.best, 0u);
  }
  finish(cuda);
}

// Whatever call fails, and whenever: a status, nothing leaks, and the caller's memory stays.
TEST(nothing_leaks_whatever_fails) {
  const std::vector<const char *> cuda_calls = {
      "cuMemAlloc_v2",      "cuMemGetInfo_v2",     "cuMemcpyDtoDAsync_v2", "cuMemcpyDtoHAsync_v2",
      "cuMemsetD8Async",    "cuStreamSynchronize", "cuEventCreate",        "cuEventRecord",
      "cuEventSynchronize", "cuEventElapsedTime",  "cuStreamIsCapturing",  "cuLaunchKernelEx"};
  const std::vector<const char *> hip_calls = {"hipMalloc",
                                               "hipMemGetInfo",
                                               "hipMemcpyAsync",
                                               "hipMemsetAsync",
                                               "hipStreamSynchronize",
                                               "hipEventCreateWithFlags",
                                               "hipEventRecord",
                                               "hipEventSynchronize",
                                               "hipEventElapsedTime",
                                               "hipStreamIsCapturing",
                                               "hipModuleLaunchKernel"};
  for (const Machine *machine : machines) {
    for (const char *call : machine->is_hip() ? hip_calls : cuda_calls) {
      for (const uint64_t after : {0u, 1u, 2u, 5u, 9u, 30u}) {
        for (const int code : {kOutOfMemory, 719}) {
          start(*machine);
          {
            Trying trying(*machine);
            trying.request.flags = after == 9 ? KPK_TUNE_ALLOCATE : 0;
            const std::string before = trying.memory();
            machine->fake.fail(call, code, after, 1);
            const kpk_status status = trying.search();
            CHECK(status == KPK_OK || *kpk_message() != '\0');
            CHECK(trying.memory() == before);
            EXPECT_EQ(trying.told.size(), size_t{4});
            EXPECT_EQ(machine->fake.live("memory"), uint64_t{2});
          }
          finish(*machine);
        }
      }
    }
  }
}

TEST(the_current_device_stays_what_it_was) {
  start(hip);
  {
    Trying trying(hip);
    hip.fake.entry<int(int)>("hipSetDevice")(1);
    EXPECT_OK(trying.search());
    int ordinal = -1;
    hip.fake.entry<int(int *)>("hipGetDevice")(&ordinal);
    EXPECT_EQ(ordinal, 1);
    EXPECT_EQ(trying.result.best, 0u);
  }
  finish(hip);
}

// ---- Made-up memory, descriptors, large outputs -------------------------------------------------------

TEST(memory_is_made_where_the_caller_has_none) {
  for (const Machine *machine : machines) {
    start(*machine);
    {
      Trying trying(*machine);
      trying.call(16, 128 + 4);
      trying.args.push_back(pointer(8, KPK_I64, true));
      trying.regions.push_back({80, KPK_DIRECTION_IN, false, "indices"});
      trying.request.flags = KPK_TUNE_ALLOCATE;
      static double sum, squares;
      static int64_t indices;
      sum = squares = 0;
      indices = 0;
      for (kpk::Contender &contender : trying.contenders) {
        contender.run = [](void *self, void *stream, const kpk_arg *args, uint32_t) {
          const auto *in = reinterpret_cast<const float *>(args[1].bits);
          sum = squares = 0;
          for (int32_t i = 0; i < kCount; ++i) {
            sum += static_cast<double>(in[i]);
            squares += static_cast<double>(in[i]) * static_cast<double>(in[i]);
          }
          for (int i = 0; i < 10; ++i) indices |= reinterpret_cast<const int64_t *>(args[3].bits)[i];
          EXPECT_EQ(args[3].bits % 256, uint64_t{8});
          return Way::run(self, stream, args, 3);
        };
      }
      EXPECT_OK(trying.search());
      EXPECT_EQ(trying.result.best, 0u);
      for (const Twice &way : trying.twice) EXPECT_EQ(way.misplaced, uint64_t{0});
      CHECK(std::fabs(sum / kCount) < 0.1);
      CHECK(std::fabs(squares / kCount - 1) < 0.15);
      EXPECT_EQ(indices, int64_t{0});
      trying.regions[1].bytes = 0;
      EXPECT_EQ(trying.search(), KPK_ERROR_ARGUMENT);
      CHECK(
          says("argument 2 'in_ptr': expected its extent, to make memory of that size, got none: write "
               "args={\"in_ptr\": kpack.in_(bytes=\"...\")}"));
    }
    finish(*machine);
  }
}

TEST(a_descriptor_says_its_extent_and_gets_the_address_of_the_copy) {
  start(cuda);
  {
    Trying trying(cuda);
    kpk_tensor tensor{};
    tensor.address = trying.args[0].bits;
    tensor.rank = 2;
    tensor.shape[0] = 10;
    tensor.shape[1] = 99;
    tensor.strides[0] = 100;
    tensor.strides[1] = 1;
    trying.args[0] = {reinterpret_cast<uintptr_t>(&tensor), KPK_TENSORDESC | KPK_FP32, 0, 0, 0};
    trying.regions[0].bytes = 0;
    for (kpk::Contender &contender : trying.contenders) {
      contender.run = [](void *self, void *stream, const kpk_arg *args, uint32_t count) {
        std::vector<kpk_arg> plain(args, args + count);
        const auto &given = *reinterpret_cast<const kpk_tensor *>(args[0].bits);
        plain[0] = pointer(given.address, KPK_FP32, false);
        EXPECT_EQ(given.strides[0], int64_t{100});
        return Way::run(self, stream, plain.data(), count);
      };
    }
    trying.twice[2].wrong_at = 998;
    trying.twice[3].wrong_at = 1;
    const std::string before = trying.memory();
    EXPECT_OK(trying.search());
    // The last row has 99 elements, and whole units of 16 bytes are written: 1000 - 1 + 1.
    EXPECT_EQ(trying.told[2].outcome, uint32_t{KPK_TRIAL_WRONG});
    EXPECT_EQ(trying.told[3].outcome, uint32_t{KPK_TRIAL_WRONG});
    CHECK(trying.memory() == before);
  }
  finish(cuda);
}

// More than is read back as a whole: the last bytes are always among what is.
TEST(the_ends_of_a_large_output_are_compared) {
  start(cuda);
  cuda.fake.option("memory", int64_t{1} << 30);
  {
    constexpr uint64_t large = (uint64_t{65} << 20) + 12;
    Trying trying(cuda);
    const uint64_t out = cuda.memory(large);
    struct Last {
      float value;
      static kpk_status run(void *self, void *, const kpk_arg *args, uint32_t) {
        std::memcpy(reinterpret_cast<char *>(args[0].bits) + large - 4, &static_cast<Last *>(self)->value, 4);
        return KPK_OK;
      }
    };
    Last lasts[] = {{1}, {2}, {1}};
    trying.args[0] = pointer(out, KPK_FP32, false);
    trying.regions[0].bytes = large;
    trying.contenders.clear();
    for (Last &last : lasts) trying.contenders.push_back({"last", &last, Last::run, false, nullptr});
    EXPECT_OK(trying.search());
    EXPECT_EQ(trying.told[1].outcome, uint32_t{KPK_TRIAL_WRONG});
    CHECK(trying.told[1].reason.find("of element " + std::to_string(large / 4 - 1) + " expected 1, got 2") !=
          std::string::npos);
    cuda.free(out);
  }
  finish(cuda);
}

// ---- Comparing, and numbers ---------------------------------------------------------------------------

uint64_t differences(uint8_t type, const void *a, const void *b, uint64_t bytes) {
  const auto *expected = static_cast<const unsigned char *>(a), *got = static_cast<const unsigned char *>(b);
  return kpk::compare(type, expected, got, bytes, 1, kpk::magnitude(type, expected, bytes)).count;
}

TEST(each_type_has_its_tolerance) {
  const float one[] = {1, 1, 1, 1}, near[] = {1, 1.003f, 1, 1}, far[] = {1, 1, 1.005f, 1};
  EXPECT_EQ(differences(KPK_FP32, one, near, sizeof one), uint64_t{0});
  EXPECT_EQ(differences(KPK_FP32, one, far, sizeof one), uint64_t{1});
  const double ones[] = {1, 1}, nearly[] = {1, 1 + 1e-9}, not_quite[] = {1, 1 + 3e-9};
  EXPECT_EQ(differences(KPK_FP64, ones, nearly, sizeof ones), uint64_t{0});
  EXPECT_EQ(differences(KPK_FP64, ones, not_quite, sizeof ones), uint64_t{1});
  const uint16_t half[] = {0x3c00, 0x3c00}, half_near[] = {0x3c00, 0x3c10}, half_far[] = {0x3c00, 0x3c20};
  EXPECT_EQ(differences(KPK_FP16, half, half_near, sizeof half), uint64_t{0});
  EXPECT_EQ(differences(KPK_FP16, half, half_far, sizeof half), uint64_t{1});
  const uint16_t bf[] = {0x3f80, 0x3f80}, bf_near[] = {0x3f80, 0x3f8c}, bf_far[] = {0x3f80, 0x3f90};
  EXPECT_EQ(differences(KPK_BF16, bf, bf_near, sizeof bf), uint64_t{0});
  EXPECT_EQ(differences(KPK_BF16, bf, bf_far, sizeof bf), uint64_t{1});
  const int32_t integers[] = {1000000, 2}, others[] = {1000001, 2};
  EXPECT_EQ(differences(KPK_I32, integers, others, sizeof integers), uint64_t{1});
  const uint8_t fp8[] = {0x38, 0x38}, fp8_near[] = {0x38, 0x3b}, fp8_far[] = {0x38, 0x48};
  EXPECT_EQ(differences(KPK_FP8E4NV, fp8, fp8_near, sizeof fp8), uint64_t{0});
  EXPECT_EQ(differences(KPK_FP8E4NV, fp8, fp8_far, sizeof fp8), uint64_t{1});
}

TEST(nan_is_like_nan_and_infinity_like_itself) {
  const float inf = INFINITY;
  const float expected[] = {NAN, inf, -inf, 1}, same[] = {-NAN, inf, -inf, 1};
  const float swapped[] = {NAN, -inf, inf, 1}, finite[] = {1, 3e38f, -inf, NAN};
  EXPECT_EQ(differences(KPK_FP32, expected, same, sizeof expected), uint64_t{0});
  EXPECT_EQ(differences(KPK_FP32, expected, swapped, sizeof expected), uint64_t{2});
  EXPECT_EQ(differences(KPK_FP32, expected, finite, sizeof expected), uint64_t{3});
}

TEST(small_results_are_compared_with_the_mean_of_all) {
  const float expected[] = {0, 1, 1, 2}, got[] = {0.001f, 1, 1, 2}, far[] = {0.003f, 1, 1, 2};
  EXPECT_EQ(differences(KPK_FP32, expected, got, sizeof expected), uint64_t{0});
  EXPECT_EQ(differences(KPK_FP32, expected, far, sizeof expected), uint64_t{1});
}

TEST(bytes_behind_the_last_element_are_compared_exactly) {
  const unsigned char a[] = {0, 0, 128, 63, 1, 2}, b[] = {0, 0, 128, 63, 1, 3};
  EXPECT_EQ(differences(KPK_FP32, a, b, sizeof a), uint64_t{1});
  EXPECT_EQ(differences(KPK_FP32, a, b, 5), uint64_t{0});
}

double value(uint8_t type, uint64_t bits) {
  unsigned char bytes[8];
  std::memcpy(bytes, &bits, sizeof bytes);
  return kpk::element(type, bytes);
}

TEST(elements_are_read_as_their_formats_say) {
  EXPECT_EQ(value(KPK_FP16, 0x3555), 0.333251953125);
  EXPECT_EQ(value(KPK_FP16, 0x8001), -std::ldexp(1, -24));
  EXPECT_EQ(value(KPK_FP16, 0x7bff), 65504.0);
  EXPECT_EQ(value(KPK_FP16, 0xfc00), -INFINITY);
  CHECK(std::isnan(value(KPK_FP16, 0x7c01)));
  EXPECT_EQ(value(KPK_BF16, 0xc040), -3.0);
  EXPECT_EQ(value(KPK_FP8E4NV, 0x7e), 448.0);
  EXPECT_EQ(value(KPK_FP8E4NV, 0x01), std::ldexp(1, -9));
  CHECK(std::isnan(value(KPK_FP8E4NV, 0xff)));
  EXPECT_EQ(value(KPK_FP8E5, 0x7b), 57344.0);
  EXPECT_EQ(value(KPK_FP8E5, 0x7c), INFINITY);
  EXPECT_EQ(value(KPK_FP8E4B8, 0x7f), 240.0);
  CHECK(std::isnan(value(KPK_FP8E4B8, 0x80)));
  EXPECT_EQ(value(KPK_FP8E5B16, 0x7f), 57344.0);
  EXPECT_EQ(value(KPK_FP8E4B15, 0x7f), 1.875);
  EXPECT_EQ(value(KPK_I8, 0xff), -1.0);
  EXPECT_EQ(value(KPK_U32, 0xffffffff), 4294967295.0);
}

TEST(made_up_numbers_are_normal_or_zero) {
  for (const uint8_t type :
       {KPK_FP16, KPK_BF16, KPK_FP32, KPK_FP64, KPK_FP8E4NV, KPK_FP8E5, KPK_FP8E4B8, KPK_FP8E5B16}) {
    constexpr uint64_t count = 10000;
    const auto width = static_cast<uint64_t>(kpk::element_bytes(type));
    std::vector<unsigned char> data(count * width + 1, 0xff);
    kpk::make_numbers(type, data.data(), data.size());
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < count; ++i) {
      const double each = kpk::element(type, data.data() + i * width);
      sum += each;
      squares += each * each;
    }
    CHECK(std::fabs(sum / count) < 0.05);
    CHECK(std::fabs(squares / count - 1) < 0.06);
    if (width > 1) EXPECT_EQ(int{data.back()}, 0);
  }
  for (const uint8_t type : {KPK_I1, KPK_I8, KPK_I32, KPK_I64, KPK_U64, KPK_VOID}) {
    unsigned char data[17];
    std::memset(data, 0xff, sizeof data);
    kpk::make_numbers(type, data, sizeof data);
    for (const unsigned char byte : data) EXPECT_EQ(int{byte}, 0);
  }
}

TEST(a_dry_run_measures_nothing) {
  start(cuda);
  {
    Trying trying(cuda);
    kpk::Driver driver = *trying.request.device->driver;
    driver.bench = nullptr;
    kpk::Device device = *trying.request.device;
    device.driver = &driver;
    trying.request.device = &device;
    EXPECT_EQ(trying.search(), KPK_ERROR_UNSUPPORTED);
    CHECK(says("twice: tuning: the CUDA driver measures nothing"));
  }
  finish(cuda);
}

}  // namespace

int main(int argc, char **argv) {
  cuda = {fake::open("libcuda.so.1", "cuda"),
          KPK_VENDOR_CUDA,
          "cuMemAlloc_v2",
          "cuMemFree_v2",
          "cuStreamCreate",
          "cuStreamDestroy_v2",
          "cuStreamBeginCapture_v2",
          "cuStreamEndCapture"};
  hip = {fake::open("libamdhip64.so", "hip"),
         KPK_VENDOR_HIP,
         "hipMalloc",
         "hipFree",
         "hipStreamCreateWithFlags",
         "hipStreamDestroy",
         "hipStreamBeginCapture",
         "hipStreamEndCapture"};
  cuda.fake.configure("sm_90");
  cuda.fake.entry<int(unsigned)>("cuInit")(0);
  hip.fake.configure("gfx90a:sramecc+:xnack-,gfx1100");
  return check::run(argc > 1 ? argv[1] : "");
}
