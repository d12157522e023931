// Both vendors in one process, and none: which driver a stream belongs to.

#include <cstring>
#include <kpack/kpack.hpp>

#include "check.h"
#include "fake.h"

KPACK_KERNEL(tk, nothing);

namespace {

fake::Fake cuda, hip;

bool says(const char *part) { return std::strstr(kpk_message(), part) != nullptr; }

TEST(a_bare_null_stream_is_refused_where_both_have_devices) {
  EXPECT_EQ(tk::nothing(nullptr).code(), KPK_ERROR_STREAM);
  CHECK(says("nothing: expected a stream that says its vendor"));
}

TEST(a_typed_stream_goes_to_its_vendor) {
  CHECK(tk::nothing(kpack::cuda_stream(nullptr)));
  EXPECT_EQ(cuda.launches(), uint64_t{1});
  EXPECT_EQ(hip.launches(), uint64_t{0});
  CHECK(tk::nothing(static_cast<ihipStream_t *>(nullptr)));
  EXPECT_EQ(hip.launches(), uint64_t{1});
  EXPECT_EQ(cuda.violations() + hip.violations(), uint64_t{0});
}

TEST(devices_are_counted_and_named) {
  EXPECT_EQ(kpk_device_count(KPK_VENDOR_CUDA), 1);
  EXPECT_EQ(kpk_device_count(KPK_VENDOR_HIP), 1);
  EXPECT_EQ(kpk_device_count(KPK_VENDOR_ANY), 2);
  EXPECT_EQ(std::strcmp(kpk_device_arch(kpack::cuda_device(0)), "sm_90"), 0);
  EXPECT_EQ(std::strcmp(kpk_device_arch(kpack::hip_device(0)), "gfx90a:sramecc+:xnack-"), 0);
  CHECK(kpk_device_arch(kpack::hip_device(1)) == nullptr);
}

}  // namespace

int main() {
  cuda = fake::open("libcuda.so.1", "cuda");
  hip = fake::open("libamdhip64.so", "hip");
  cuda.configure("sm_90");
  hip.configure("gfx90a:sramecc+:xnack-");
  return check::run();
}
