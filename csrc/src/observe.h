// Who watches: a callback of the program, NVTX, KPACK_LOG. Launches look at g_switches.watched alone; all else is
// asked only where images are loaded and unloaded, and once a launch is known to be watched.
#pragma once

#include "driver.h"

namespace kpk {

// Reads KPACK_LOG and NVTX_INJECTION64_PATH, once: before the first launch looks at g_switches.watched.
void read_watchers();

// A line on stderr, "kpack: " in front: always, or where KPACK_LOG asks for what is loaded.
[[gnu::format(printf, 1, 2)]] void say(const char *format, ...);
[[gnu::format(printf, 1, 2)]] void log_line(const char *format, ...);

// The time that a driver works on one image, and its NVTX range: begun and ended in one thread.
struct Span {
  uint64_t begin_ns;  // 0: nobody watches
  uint64_t end_ns;
};
Span begin_span(const kpk_abi_image &image);
void end_span(Span *span);

// What has been done with which image, where.
struct Deed {
  kpk_status status;
  const KernelView *view;
  const kpk_abi_variant *variant;
  const kpk_abi_image *image;
  const Device *device;
};
// Of a load: KPACK_LOG is told at once, the observer by tell_loads(). It may call kpack, so that it is not called
// before no lock is held and no other thread waits for this one.
void note_load(const Deed &deed, const Span &span);
void tell_loads();
// Of an unload, likewise when no lock is held.
void tell_unload(const Deed &deed, const Span &span);

// Makes the launch and tells of it.
kpk_status watch_launch(const LaunchRequest &request, kpk_status (*launch)(const LaunchRequest &));

}  // namespace kpk
