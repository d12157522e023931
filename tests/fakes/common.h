// What both fakes keep in the same way: streams that capture, the gathering of launch parameters, and the words
// of a configuration.
#ifndef KPACK_TESTS_FAKES_COMMON_H
#define KPACK_TESTS_FAKES_COMMON_H

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "image_note.h"
#include "kernels.h"
#include "memory.h"
#include "recorder.h"

#define FAKE_API extern "C" __attribute__((visibility("default")))
// Entry points that CUDA 11.8 and ROCm 5.2 do not have; the libraries in old/ do not export them.
#ifdef FAKE_OLD
#define FAKE_API_NEW extern "C" __attribute__((visibility("hidden")))
#else
#define FAKE_API_NEW FAKE_API
#endif

namespace fakes {

// Codes that CUDA and HIP share.
enum Shared : int {
  kOk = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kNoBinaryForGpu = 209,
  kInvalidHandle = 400,
  kIllegalState = 401,
  kNotFound = 500,
  kCooperativeLaunchTooLarge = 720,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
  kCaptureImplicit = 906,
  kCaptureWrongThread = 908,
};

// "sm_90,sm_80;driver=12080;file_backed=301"; "none" is no device.
struct Configuration {
  std::vector<std::string> devices;
  std::map<std::string, int64_t> settings;
};
Configuration parse_configuration(const std::string &text);
// The first of `text`, the environment's `variable` and `otherwise` that says something.
std::string configuration_text(const char *text, const char *variable, const char *otherwise);

enum CaptureMode : int { kGlobal = 0, kThreadLocal = 1, kRelaxed = 2 };
enum CaptureStatus : int { kNone = 0, kActive = 1, kInvalidated = 2 };

// The capture of one stream.
struct Capture {
  std::atomic<int> status{kNone};
  int mode = kGlobal;      // of Captures' mutex
  std::thread::id thread;  // of Captures' mutex
};

// All captures under way. A call that is unsafe in a capture is refused as the CUDA documentation of
// cuThreadExchangeStreamCaptureMode says: by a capture of this thread that is not relaxed, and, from a
// thread in global mode, by a global capture of any thread. The refusal invalidates the capture.
class Captures {
 public:
  int begin(Capture *capture, int mode);
  int end(Capture *capture);
  bool forbids_unsafe_call();
  void invalidate(Capture *capture);
  int exchange_mode(int *mode);
  void clear();
  bool any() const { return count_.load(std::memory_order_relaxed) != 0; }

 private:
  std::mutex mutex_;
  std::atomic<int> count_{0};
  std::vector<Capture *> active_;
};

// The parameters of a launch, one of two ways.
struct Arguments {
  void **pointers = nullptr;             // kernelParams
  const unsigned char *block = nullptr;  // extra: the packed block ...
  size_t block_bytes = 0;                // ... and its size
};

// Reads `extra`: {1, block, 2, &bytes, end}. CUDA takes the pairs in any order and ends with 0; HIP takes
// exactly this order and ends with 3.
bool read_extra(void **extra, bool any_order, uintptr_t end, Arguments *out);

// A copy of the arguments as the kernel would see them. With pointers exactly the sizes of the image's
// note are read. False: a pointer is null.
bool copy_arguments(const Kernel &kernel, const Arguments &arguments, std::vector<unsigned char> *out);

// Does what a test has said of the launch's kernel, in the fake's time, and keeps the launch.
int run_kernel(Launch launch);
// The error that a test has said its launches return; 0: none.
int kernel_error(const std::string &function);

// Records a violation when the bytes that an image was loaded from are gone or others: for a driver that
// was given them to keep.
void check_intact(const char *call, const Image &image);

// Each library's own: what the controls of fake.h call.
Recorder &recorder();
void configure(const char *devices);
uint64_t live(const std::string &what);
void option(const std::string &name, int64_t value);

}  // namespace fakes

// Defines the functions of FAKE_CONTROLS as fake_<vendor>_<name>; FAKE_CHECK_CONTROL proves that none is
// forgotten and that each has the type of fake.h.
#define FAKE_DEFINE_CONTROLS(p)                                                                      \
  FAKE_API void p##configure(const char *devices) { fakes::configure(devices); }                     \
  FAKE_API void p##reset() {                                                                         \
    fakes::recorder().reset();                                                                       \
    fakes::kernels().clear();                                                                        \
    fakes::timeline().clear();                                                                       \
    fakes::option("", 0);                                                                            \
  }                                                                                                  \
  FAKE_API void p##record(int on) { fakes::recorder().record(on != 0); }                             \
  FAKE_API uint64_t p##calls(const char *name) { return fakes::recorder().calls(name); }             \
  FAKE_API uint64_t p##launches() { return fakes::recorder().launches(); }                           \
  FAKE_API int p##launch(uint64_t index, fake_launch *out) {                                         \
    return fakes::recorder().launch(index, out) ? 1 : 0;                                             \
  }                                                                                                  \
  FAKE_API uint64_t p##violations() { return fakes::recorder().violations(); }                       \
  FAKE_API const char *p##violation(uint64_t index) { return fakes::recorder().violation(index); }   \
  FAKE_API uint64_t p##loads(int device) { return fakes::recorder().loads(device); }                 \
  FAKE_API uint64_t p##live(const char *what) { return fakes::live(what); }                          \
  FAKE_API uint64_t p##unaligned() { return fakes::recorder().unaligned(); }                         \
  FAKE_API void p##fail(const char *name, int code, uint64_t after, uint64_t times) {                \
    fakes::recorder().fail(name, code, after, times);                                                \
  }                                                                                                  \
  FAKE_API void p##delay_us(const char *name, unsigned us) { fakes::recorder().delay_us(name, us); } \
  FAKE_API void p##hide(const char *name, int hidden) { fakes::recorder().hide(name, hidden != 0); } \
  FAKE_API void p##option(const char *name, int64_t value) { fakes::option(name, value); }           \
  FAKE_API void p##kernel(const char *function, const fake_kernel *kernel) {                         \
    fakes::kernels().set(function, kernel);                                                          \
  }

#define FAKE_CHECK_CONTROL(function, result, arguments) \
  static_assert(std::is_same_v<decltype(&function), result(*) arguments>, #function ": not as in fake.h")

#endif
