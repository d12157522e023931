// The fake CUDA machine: devices, contexts, streams, modules, libraries, and who owns what.
//
// Objects live in deques and are never freed, only marked dead, so that a stale handle is a violation
// with a name and not a crash. What a launch reads is immutable or atomic: it takes no lock.
#ifndef KPACK_TESTS_FAKES_CUDA_STATE_H
#define KPACK_TESTS_FAKES_CUDA_STATE_H

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "common.h"
#include "cuda_abi.h"

namespace fakes {

constexpr unsigned kMaxDevices = 16;
constexpr uint32_t kSharedWithoutOptIn = 49152;

struct Context {
  std::atomic<Life> life{Life::kAlive};
  std::atomic<uint64_t> id{next_id()};  // never given again, unlike an address
  int device = 0;
  bool primary = false;
  unsigned retained = 0;  // of a primary context: alive while not 0

  static uint64_t next_id() {
    static std::atomic<uint64_t> last{0};
    return ++last;
  }
};

struct Stream {
  std::atomic<Life> life{Life::kAlive};
  Context *context = nullptr;
  bool blocking = true;  // implicitly ordered with the null stream
  Capture capture;
};

struct Module {
  std::atomic<Life> life{Life::kAlive};
  Context *context = nullptr;
  Image image;
};

struct Library {
  std::atomic<Life> life{Life::kAlive};
  Image image;
  bool preserved = false;       // the caller promised to keep the bytes until the unload
  std::set<Context *> used_in;  // contexts that have loaded it by now
};

// A CUfunction, or a CUkernel: then `context` is null. A function of a kernel has the kernel's attributes.
struct Function {
  std::atomic<Life> life{Life::kAlive};
  const Image *image = nullptr;
  const Kernel *kernel = nullptr;
  Context *context = nullptr;
  Module *module = nullptr;
  Library *library = nullptr;
  Function *base = nullptr;
  std::array<std::atomic<int>, kMaxDevices> max_dynamic_shared = {};
  std::atomic<int> non_portable_cluster{0};

  Function &attributes() { return base != nullptr ? *base : *this; }
};

// What is known of a device of a compute capability.
struct Device {
  int arch = 0;  // 10 * major + minor
  std::string name;
  int multiprocessors = 0;
  int threads_per_multiprocessor = 0;
  int shared_optin_bytes = 0;
  int shared_per_multiprocessor = 0;
  Context *primary = nullptr;
};

// Immutable; configure() puts another in its place.
struct Machine {
  int driver_version = 0;
  std::vector<Device> devices;
};

// A stream argument: a handle, or one of the special ones, which mean the current context.
struct StreamRef {
  Context *context = nullptr;
  Stream *stream = nullptr;
};

class State {
 public:
  State();
  void configure(const char *text);
  const Machine &machine() const { return *machine_.load(std::memory_order_acquire); }
  const Device *device(int ordinal) const;

  Context *create_context(int device, bool primary);
  void destroy(Context *context);
  // A primary one, as cuDevicePrimaryCtxReset does it: who has retained it, has it still.
  // A primary one, that nobody has retained or that was reset, lives again as another context.
  void revive(Context *context);
  Stream *create_stream(Context *context, bool blocking);
  Event *create_event(Context *context);
  Module *create_module(Context *context, Image image);
  void destroy(Module *module);
  Library *create_library(Image image, bool preserved);
  void destroy(Library *library);
  // The one function of that name; null if the image has none. Exactly one of `module`, `library` is given.
  Function *function(Module *module, Library *library, const std::string &name);
  // The function of a kernel in a context.
  Function *function_in(Function *kernel, Context *context);
  bool uses(Library *library, Context *context);
  // Whether the context had not loaded the library yet; it has now.
  bool first_use(Library *library, Context *context);
  uint64_t live(const std::string &what);

  std::mutex mutex;  // of primary contexts' `retained` and of the lists
  std::atomic<bool> initialized{false};
  std::atomic<bool> forked{false};  // from a process that had used it: unusable for ever
  std::atomic<int64_t> file_backed_error{0};
  std::atomic<int64_t> param_lie{0};      // added to the size of the last parameter that is asked for
  std::atomic<int64_t> max_clusters{-1};  // that cuOccupancyMaxActiveClusters says; -1: one a GPC
  Captures captures;
  Memory memory;

  // Whether a blocking stream of the context is capturing: then the null stream may not be used.
  bool implicit_capture(Context *context);

 private:
  void kill_context(Context *context);
  Function *add_function(const Image *image, const Kernel *kernel);

  std::atomic<const Machine *> machine_{nullptr};
  std::deque<Machine> machines_;
  std::deque<Context> contexts_;
  std::deque<Stream> streams_;
  std::deque<Event> events_;
  std::deque<Module> modules_;
  std::deque<Library> libraries_;
  std::deque<Function> functions_;
};

State &state();

// The stack of contexts of this thread.
struct ContextStack {
  Context *items[32];
  unsigned depth;
  Context *top() const { return depth == 0 ? nullptr : items[depth - 1]; }
};
ContextStack &context_stack();

// The first line of every entry point but a few: counts, injects, and refuses before cuInit.
int enter(Call call);

// The current context, alive; else the driver's error.
int current_context(Context **out);
int resolve_stream(Call call, void *handle, StreamRef *out);

// 0, or the error of a null, stale or foreign handle.
template <class Object>
int check_handle(Call call, const char *what, const Object *object) {
  if (object == nullptr) return kInvalidHandle;
  const Life life = object->life.load(std::memory_order_acquire);
  if (life == Life::kAlive) return kOk;
  if (life == Life::kStranded) return kInvalidHandle;
  recorder().violate(std::string(recorder().name(call)) + ": " + what + " " +
                     hex(reinterpret_cast<uintptr_t>(object)) +
                     (life == Life::kDead ? " was destroyed before" : " is none of this driver"));
  return kInvalidHandle;
}

// Whether an image runs on a device of `arch`.
bool runs_on(const Image &image, int arch);

int launch(Call call, const LaunchConfig &config, void *function, void **params, void **extra);
// How many blocks of a function a multiprocessor runs at once.
int max_active_blocks(const Function &function, int threads, size_t shared_bytes, const Device &device,
                      int *out);
// How many clusters of this launch the device runs at once.
int max_active_clusters(const LaunchConfig &config, Function &function, const Device &device, int *out);

// What is wrong with the 128 bytes of a tensor map that a launch passes; "" if nothing is.
std::string map_fault(const unsigned char *bytes);

}  // namespace fakes

// cuda_tensor.cc
FAKE_API_NEW int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *address,
                                        const uint64_t *shape, const uint64_t *strides, const uint32_t *box,
                                        const uint32_t *element_strides, int interleave, int swizzle,
                                        int promotion, int fill);
FAKE_API_NEW int cuTensorMapEncodeIm2col(void *map, int type, uint32_t rank, void *address,
                                         const uint64_t *shape, const uint64_t *strides, const int *lower,
                                         const int *upper, uint32_t channels, uint32_t pixels,
                                         const uint32_t *element_strides, int interleave, int swizzle,
                                         int promotion, int fill);
#endif
