// The fake HIP machine: devices, streams and modules. There are no contexts: a thread has a current
// device, and a module belongs to the device that was current when it was loaded.
//
// As in the CUDA fake, objects are never freed and what a launch reads is immutable or atomic.
#ifndef KPACK_TESTS_FAKES_HIP_STATE_H
#define KPACK_TESTS_FAKES_HIP_STATE_H

#include <atomic>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "common.h"
#include "hip_abi.h"

namespace fakes {

struct Stream {
  std::atomic<Life> life{Life::kAlive};
  int device = 0;
  Capture capture;
};

// HIP keeps the pointer to a raw ELF: the bytes must stay as they are until the module is unloaded.
struct Module {
  std::atomic<Life> life{Life::kAlive};
  int device = 0;
  Image image;
};

struct Function {
  std::atomic<Life> life{Life::kAlive};
  const Kernel *kernel = nullptr;
  Module *module = nullptr;
};

struct Device {
  std::string arch_name;   // "gfx90a:sramecc+:xnack-"
  uint32_t processor = 0;  // e_flags & 0xff of its code objects
  char xnack = 0;          // '+', '-', or 0: it has no such feature
  char sramecc = 0;
  int major = 0;
  int minor = 0;
  uint32_t warp_size = 0;
  uint32_t shared_bytes = 0;  // LDS that one block may have
  uint32_t multiprocessors = 0;
};

struct Machine {
  int version = 0;
  std::vector<Device> devices;
};

struct StreamRef {
  int device = 0;
  Stream *stream = nullptr;
};

class State {
 public:
  State();
  void configure(const char *text);
  const Machine &machine() const { return *machine_.load(std::memory_order_acquire); }
  const Device *device(int ordinal) const;

  Stream *create_stream(int device);
  Event *create_event(int device);
  Module *create_module(int device, Image image);
  void destroy(Module *module);
  Function *function(Module *module, const std::string &name);
  uint64_t live(const std::string &what);

  std::atomic<int64_t> file_backed_error{0};
  std::atomic<int64_t> capture_allocation_error{0};  // of an allocation on a stream that captures; 0: none
  Captures captures;
  Memory memory;

 private:
  std::mutex mutex_;
  std::atomic<const Machine *> machine_{nullptr};
  std::deque<Machine> machines_;
  std::deque<Stream> streams_;
  std::deque<Event> events_;
  std::deque<Module> modules_;
  std::deque<Function> functions_;
};

State &state();
// The current device of this thread.
int &current_device();
int resolve_stream(Call call, void *handle, StreamRef *out);

// 0, or `error` for a null, stale or foreign handle.
template <class Object>
int check_handle(Call call, const char *what, const Object *object, int error = kInvalidHandle) {
  if (object == nullptr) return error;
  const Life life = object->life.load(std::memory_order_acquire);
  if (life == Life::kAlive) return kOk;
  recorder().violate(std::string(recorder().name(call)) + ": " + what + " " +
                     hex(reinterpret_cast<uintptr_t>(object)) +
                     (life == Life::kDead ? " was destroyed before" : " is none of this runtime"));
  return error;
}

// Whether a code object with these e_flags runs on the device: same processor; xnack and sramecc equal,
// or "any" or unsupported in the object.
bool runs_on(uint32_t elf_flags, const Device &device);

// How many blocks one multiprocessor runs at once.
uint32_t blocks_at_once(const Kernel &kernel, uint32_t threads, size_t shared_bytes, const Device &device);
int launch(Call call, const LaunchConfig &config, void *function, void **params, void **extra);

}  // namespace fakes
#endif
