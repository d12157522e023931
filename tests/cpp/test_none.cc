// A machine without a driver: the program runs, and is told so. Run where no fake and no driver is found.

#include <cstring>
#include <kpack/kpack.hpp>

#include "check.h"

KPACK_KERNEL(tk, nothing);

TEST(without_a_driver_a_launch_says_so) {
  EXPECT_EQ(tk::nothing(nullptr).code(), KPK_ERROR_NO_DRIVER);
  CHECK(std::strstr(kpk_message(), "nothing: no GPU driver: libcuda.so.1") != nullptr);
  CHECK(std::strstr(kpk_message(), "libamdhip64.so") != nullptr);
  CHECK(std::strstr(kpk_message(), "KPACK_DRIVER=dry") != nullptr);
  EXPECT_EQ(kpk_device_count(KPK_VENDOR_ANY), 0);
}

int main() { return check::run(); }
