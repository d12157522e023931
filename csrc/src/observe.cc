#include "observe.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdlib>
#include <cstring>

#include "message.h"
#include "nvtx.h"

namespace kpk {
namespace {

enum class Log : uint8_t { kOff, kLoads, kLaunches };

// Set by read_watchers() and kpk_set_observer(), which is not called while other threads launch.
struct Watchers {
  kpk_observer observer;
  void *user;
  Log log;
  bool nvtx;
};
Watchers g_watchers;
pthread_once_t g_once = PTHREAD_ONCE_INIT;

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

// A line on stderr, in one write: lines of several threads and processes do not mix.
class Line : public Text {
 public:
  Line() : Text(text_, sizeof text_ - 1) { add("kpack: "); }
  void write() {
    size_t length = std::strlen(text_);
    text_[length++] = '\n';
    // A log that cannot be written is no error of the launch.
    if (::write(STDERR_FILENO, text_, length) < 0) return;
  }

 private:
  char text_[1024];
};

bool watches_launches() {
  return g_watchers.observer != nullptr || g_watchers.log == Log::kLaunches || g_watchers.nvtx;
}

bool watches_loads() { return watches_launches() || g_watchers.log == Log::kLoads; }

void set_watched(bool watched) {
  if (watched) {
    g_switches.watched.fetch_or(kObserved, std::memory_order_release);
  } else {
    g_switches.watched.fetch_and(static_cast<uint8_t>(~kObserved), std::memory_order_release);
  }
}

void read_log() {
  const char *level = std::getenv("KPACK_LOG");
  if (level == nullptr || *level == '\0') return;
  if (std::strcmp(level, "info") == 0) {
    g_watchers.log = Log::kLoads;
  } else if (std::strcmp(level, "debug") == 0) {
    g_watchers.log = Log::kLaunches;
  } else {
    Line line;
    line.add("KPACK_LOG: expected info (loads) or debug (launches, too), got '%.64s'", level);
    line.write();
  }
}

void read_environment() {
  read_log();
  const char *why = nullptr;
  g_watchers.nvtx = nvtx_attach(&why);
  if (why != nullptr && g_watchers.log != Log::kOff) {
    Line line;
    line.add("NVTX_INJECTION64_PATH: expected the library of a tool, got one of which it is said: %s", why);
    line.write();
  }
  set_watched(watches_launches());
}

void log_event(const kpk_event &event, const Device &device) {
  static const char *const deeds[] = {"", "load", "launch", "unload"};
  Line line;
  line.add("%s %s on ", deeds[event.kind], event.image);
  if (is_dry_device(device)) {
    line.add("%s (dry)", device.arch);
  } else {
    line.add("%s device %d", device.vendor == KPK_VENDOR_HIP ? "HIP" : "CUDA", device.ordinal);
  }
  if (event.kind == KPK_EVENT_LAUNCH) {
    line.add(", grid %u x %u x %u, stream %p", event.grid[0], event.grid[1], event.grid[2],
             event.stream.handle);
  }
  line.add(": %.1f us", static_cast<double>(event.end_ns - event.begin_ns) / 1000);
  if (event.status != KPK_OK) line.add(", %s", kpk_status_name(event.status));
  if (event.status > KPK_DRY) {
    line.add(": %.*s", static_cast<int>(std::strcspn(kpk_message(), "\n")), kpk_message());
  }
  line.write();
}

bool logs(uint32_t kind) {
  return g_watchers.log >= (kind == KPK_EVENT_LAUNCH ? Log::kLaunches : Log::kLoads);
}

thread_local bool t_in_observer;

// What an observer does itself is not told: it would not end. What the thread was told stays.
void call_observer(const kpk_event &event) {
  if (g_watchers.observer == nullptr || t_in_observer) return;
  t_in_observer = true;
  const KeepMessage message;
  g_watchers.observer(g_watchers.user, &event);
  t_in_observer = false;
}

kpk_event event_of(uint32_t kind, const Deed &deed, const Span &span) {
  kpk_event event = {};
  event.size = sizeof event;
  event.kind = kind;
  event.status = deed.status;
  event.kernel = deed.view->kernel;
  event.variant = text(deed.variant->name);
  event.target = text(deed.view->target(*deed.image).name);
  event.image = text(deed.image->symbol);
  event.device = {deed.device->vendor, deed.device->ordinal};
  event.begin_ns = span.begin_ns;
  event.end_ns = span.end_ns;
  return event;
}

// Nobody watches, or nothing was done: the dry driver loads nothing.
bool is_nothing(const Deed &deed, const Span &span) {
  return span.begin_ns == 0 || is_dry_device(*deed.device);
}

// Loads of this thread that its observer is to be told of: the images of one variant, which are tried in turn.
constexpr uint32_t kMostLoads = 8;
thread_local kpk_event t_loads[kMostLoads];
thread_local uint32_t t_load_count;

}  // namespace

void read_watchers() { pthread_once(&g_once, read_environment); }

void say(const char *format, ...) {
  Line line;
  va_list values;
  va_start(values, format);
  line.add_list(format, values);
  va_end(values);
  line.write();
}

void log_line(const char *format, ...) {
  read_watchers();
  if (g_watchers.log == Log::kOff) return;
  Line line;
  va_list values;
  va_start(values, format);
  line.add_list(format, values);
  va_end(values);
  line.write();
}

Span begin_span(const kpk_abi_image &image) {
  if (!watches_loads()) return {0, 0};
  if (g_watchers.nvtx) nvtx_push(text(image.symbol));
  return {now_ns(), 0};
}

void end_span(Span *span) {
  if (span->begin_ns == 0) return;
  span->end_ns = now_ns();
  if (g_watchers.nvtx) nvtx_pop();
}

void note_load(const Deed &deed, const Span &span) {
  if (is_nothing(deed, span)) return;
  const kpk_event event = event_of(KPK_EVENT_LOAD, deed, span);
  if (logs(event.kind)) log_event(event, *deed.device);
  if (g_watchers.observer == nullptr || t_in_observer || t_load_count == kMostLoads) return;
  t_loads[t_load_count++] = event;
}

void tell_loads() {
  if (t_in_observer) return;
  for (uint32_t i = 0; i < t_load_count; ++i) call_observer(t_loads[i]);
  t_load_count = 0;
}

void tell_unload(const Deed &deed, const Span &span) {
  if (is_nothing(deed, span)) return;
  const kpk_event event = event_of(KPK_EVENT_UNLOAD, deed, span);
  if (logs(event.kind)) log_event(event, *deed.device);
  call_observer(event);
}

kpk_status watch_launch(const LaunchRequest &request, kpk_status (*launch)(const LaunchRequest &)) {
  const Plan &plan = *request.plan;
  Span span = begin_span(*plan.image);
  const kpk_status status = launch(request);
  end_span(&span);
  if (span.begin_ns == 0 || status == kElsewhere) return status;  // it is made again in another context
  kpk_event event =
      event_of(KPK_EVENT_LAUNCH, {status, plan.view, plan.variant, plan.image, plan.device}, span);
  std::memcpy(event.grid, request.grid, sizeof event.grid);
  event.stream = {request.stream, plan.device->vendor, 0};
  if (logs(event.kind)) log_event(event, *plan.device);
  call_observer(event);
  return status;
}

}  // namespace kpk

extern "C" void kpk_set_observer(kpk_observer observer, void *user) {
  kpk::read_watchers();
  kpk::g_watchers.observer = observer;
  kpk::g_watchers.user = user;
  kpk::set_watched(kpk::watches_launches());
}
