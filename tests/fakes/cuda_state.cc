// The machine's book-keeping.
#include "cuda_state.h"

#include <pthread.h>

#include <cstdlib>

namespace fakes {
namespace {

const Entry kEntries[] = {
#define FAKE_X(name, since) {#name, since},
    CUDA_CALLS(FAKE_X)
#undef FAKE_X
};

#ifdef FAKE_OLD
constexpr char kDefault[] = "sm_80;driver=11080";
#else
constexpr char kDefault[] = "sm_90;driver=12080";
#endif

// Shared memory and threads of a compute capability: the table of CUDA's programming guide.
struct Limits {
  int arch;
  int multiprocessors;
  int threads_per_multiprocessor;
  int shared_optin_bytes;
};
constexpr Limits kLimits[] = {
    {70, 80, 2048, 98304},    {75, 40, 1024, 65536},    {80, 108, 2048, 166912}, {86, 84, 1536, 101376},
    {87, 16, 1536, 166912},   {89, 142, 1536, 101376},  {90, 132, 2048, 232448}, {100, 148, 2048, 232448},
    {103, 160, 2048, 232448}, {120, 170, 1536, 101376},
};

Device make_device(const std::string &name) {
  if (name.compare(0, 3, "sm_") != 0) {
    std::fprintf(stderr, "FAKE_CUDA: expected a device such as sm_90, got '%s'\n", name.c_str());
    std::abort();
  }
  Device device;
  device.arch = std::atoi(name.c_str() + 3);
  device.name = "fake " + name;
  Limits limits = kLimits[0];
  for (const Limits &row : kLimits) {
    if (row.arch <= device.arch) limits = row;
  }
  device.multiprocessors = limits.multiprocessors;
  device.threads_per_multiprocessor = limits.threads_per_multiprocessor;
  device.shared_optin_bytes = limits.shared_optin_bytes;
  device.shared_per_multiprocessor = limits.shared_optin_bytes + (device.arch >= 80 ? 1024 : 0);
  return device;
}

template <class Object>
uint64_t count_alive(const std::deque<Object> &objects) {
  uint64_t count = 0;
  for (const Object &object : objects) count += object.life.load() == Life::kAlive ? 1 : 0;
  return count;
}

template <class Object>
void kill(Object &object) {
  object.life.store(Life::kDead, std::memory_order_release);
}

}  // namespace

Recorder &recorder() {
  static Recorder *const one =
      new Recorder("cuda", kEntries, static_cast<unsigned>(sizeof kEntries / sizeof kEntries[0]));
  return *one;
}

State &state() {
  static State *const one = new State();  // never destroyed: programs launch from their own destructors
  return *one;
}

ContextStack &context_stack() {
  thread_local ContextStack stack = {{}, 0};
  return stack;
}

void configure(const char *devices) {
  recorder().reset();
  kernels().clear();
  timeline().clear();
  state().configure(devices);
}

uint64_t live(const std::string &what) { return state().live(what); }

void option(const std::string &name, int64_t value) {
  if (name == "file_backed" || name.empty()) state().file_backed_error.store(value);
  if (name == "param_lie" || name.empty()) state().param_lie.store(value);
  if (name == "memory" || name.empty()) {
    state().memory.set_capacity(name.empty() ? kCapacity : static_cast<uint64_t>(value));
  }
  if (name == "max_clusters" || name.empty()) state().max_clusters.store(name.empty() ? -1 : value);
}

// What CUDA says to the child of a process that has used it: nothing is initialised, and cannot be.
void forbid_after_fork() {
  if (state().initialized.exchange(false)) state().forked.store(true);
}

State::State() {
  configure(nullptr);
  pthread_atfork(nullptr, nullptr, forbid_after_fork);
}

void State::configure(const char *text) {
  const Configuration configuration = parse_configuration(configuration_text(text, "FAKE_CUDA", kDefault));
  Machine machine;
  machine.driver_version = 12080;
  for (const auto &[name, value] : configuration.settings) {
    if (name == "driver") machine.driver_version = static_cast<int>(value);
    if (name == "file_backed") file_backed_error.store(value);
    if (name == "memory") memory.set_capacity(static_cast<uint64_t>(value));
  }
#ifdef FAKE_OLD
  if (configuration.settings.count("driver") == 0) machine.driver_version = 11080;
#endif
  for (const std::string &name : configuration.devices) {
    if (machine.devices.size() < kMaxDevices) machine.devices.push_back(make_device(name));
  }
  const std::lock_guard<std::mutex> lock(mutex);
  for (Context &context : contexts_) kill(context);
  for (Stream &stream : streams_) kill(stream);
  for (Event &event : events_) kill(event);
  for (Module &module : modules_) kill(module);
  for (Library &library : libraries_) kill(library);
  for (Function &function : functions_) kill(function);
  for (size_t i = 0; i < machine.devices.size(); ++i) {
    Context &primary = contexts_.emplace_back();
    primary.device = static_cast<int>(i);
    primary.primary = true;
    kill(primary);  // until it is retained
    machine.devices[i].primary = &primary;
  }
  context_stack().depth = 0;
  captures.clear();
  memory.clear();
  initialized.store(false);
  machine_.store(&machines_.emplace_back(std::move(machine)), std::memory_order_release);
  recorder().set_version(machines_.back().driver_version);
}

const Device *State::device(int ordinal) const {
  const std::vector<Device> &devices = machine().devices;
  const auto index = static_cast<size_t>(ordinal);
  return ordinal >= 0 && index < devices.size() ? &devices[index] : nullptr;
}

Context *State::create_context(int device, bool primary) {
  const std::lock_guard<std::mutex> lock(mutex);
  Context &context = contexts_.emplace_back();
  context.device = device;
  context.primary = primary;
  return &context;
}

void State::destroy(Context *context) {
  const std::lock_guard<std::mutex> lock(mutex);
  kill_context(context);
}

// With the lock held. Its address is the old one, its id is new.
void State::revive(Context *context) {
  if (context->life.load() == Life::kAlive) return;
  context->id.store(Context::next_id());
  context->life.store(Life::kAlive);
}

// With the lock held: the context and all that belongs to it.
void State::kill_context(Context *context) {
  kill(*context);
  for (Stream &stream : streams_) {
    if (stream.context == context) kill(stream);
  }
  for (Event &event : events_) {
    if (event.context == context) kill(event);
  }
  for (Module &module : modules_) {
    if (module.context == context) kill(module);
  }
  for (Function &function : functions_) {
    if (function.context != context) continue;
    // Seen on an H200 (driver 580): the function of a context that is gone is refused as a handle. Nothing is known
    // of older drivers.
    if (machines_.back().driver_version < 12000) {
      kill(function);
    } else if (function.life.load(std::memory_order_relaxed) == Life::kAlive) {
      function.life.store(Life::kStranded, std::memory_order_release);
    }
  }
  for (Library &library : libraries_) library.used_in.erase(context);
}

Stream *State::create_stream(Context *context, bool blocking) {
  const std::lock_guard<std::mutex> lock(mutex);
  Stream &stream = streams_.emplace_back();
  stream.context = context;
  stream.blocking = blocking;
  return &stream;
}

Event *State::create_event(Context *context) {
  timeline().start();
  const std::lock_guard<std::mutex> lock(mutex);
  Event &event = events_.emplace_back();
  event.context = context;
  return &event;
}

Module *State::create_module(Context *context, Image image) {
  const std::lock_guard<std::mutex> lock(mutex);
  Module &module = modules_.emplace_back();
  module.context = context;
  module.image = std::move(image);
  return &module;
}

void State::destroy(Module *module) {
  const std::lock_guard<std::mutex> lock(mutex);
  kill(*module);
  for (Function &function : functions_) {
    if (function.module == module) kill(function);
  }
}

Library *State::create_library(Image image, bool preserved) {
  const std::lock_guard<std::mutex> lock(mutex);
  Library &library = libraries_.emplace_back();
  library.image = std::move(image);
  library.preserved = preserved;
  return &library;
}

void State::destroy(Library *library) {
  const std::lock_guard<std::mutex> lock(mutex);
  kill(*library);
  for (Function &function : functions_) {
    if (function.library == library) kill(function);
  }
}

Function *State::add_function(const Image *image, const Kernel *kernel) {
  Function &function = functions_.emplace_back();
  function.image = image;
  function.kernel = kernel;
  const uint32_t used = kernel->static_shared_bytes;
  const int left = used < kSharedWithoutOptIn ? static_cast<int>(kSharedWithoutOptIn - used) : 0;
  for (auto &bytes : function.max_dynamic_shared) bytes.store(left);
  return &function;
}

Function *State::function(Module *module, Library *library, const std::string &name) {
  const Image &image = module != nullptr ? module->image : library->image;
  const Kernel *kernel = image.find(name);
  if (kernel == nullptr) return nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  for (Function &known : functions_) {
    if (known.kernel == kernel && known.base == nullptr && known.module == module) return &known;
  }
  Function *function = add_function(&image, kernel);
  function->module = module;
  function->library = library;
  function->context = module != nullptr ? module->context : nullptr;
  return function;
}

Function *State::function_in(Function *kernel, Context *context) {
  const std::lock_guard<std::mutex> lock(mutex);
  for (Function &known : functions_) {
    if (known.base == kernel && known.context == context && known.life.load() == Life::kAlive) return &known;
  }
  Function *function = add_function(kernel->image, kernel->kernel);
  function->library = kernel->library;
  function->context = context;
  function->base = kernel;
  return function;
}

bool State::uses(Library *library, Context *context) {
  const std::lock_guard<std::mutex> lock(mutex);
  return library->used_in.count(context) != 0;
}

bool State::first_use(Library *library, Context *context) {
  const std::lock_guard<std::mutex> lock(mutex);
  return library->used_in.insert(context).second;
}

bool State::implicit_capture(Context *context) {
  if (!captures.any()) return false;
  const std::lock_guard<std::mutex> lock(mutex);
  for (const Stream &stream : streams_) {
    if (stream.context == context && stream.blocking && stream.capture.status.load() != kNone) return true;
  }
  return false;
}

uint64_t State::live(const std::string &what) {
  if (what == "memory") return memory.live();
  if (what == "pool") return memory.live_pools();
  if (what == "reserved") return memory.reserved();
  if (what == "host_ns") return timeline().host_ns();
  const std::lock_guard<std::mutex> lock(mutex);
  if (what == "stream") return count_alive(streams_);
  if (what == "event") return count_alive(events_);
  if (what == "module") return count_alive(modules_);
  if (what == "library") return count_alive(libraries_);
  uint64_t contexts = 0;
  for (const Context &context : contexts_) {
    contexts += !context.primary && context.life.load() == Life::kAlive ? 1 : 0;
  }
  return contexts;
}

int enter(Call call) {
  const int fault = recorder().enter(call);
  if (fault != 0) return fault;
  if (const int broken = kernels().broken.load(std::memory_order_relaxed); broken != 0) return broken;
  return state().initialized.load(std::memory_order_acquire) ? kOk : kNotInitialized;
}

int current_context(Context **out) {
  *out = context_stack().top();
  if (*out == nullptr) return kInvalidContext;
  if ((*out)->life.load(std::memory_order_acquire) == Life::kAlive) return kOk;
  return kContextIsDestroyed;
}

int resolve_stream(Call call, void *handle, StreamRef *out) {
  *out = StreamRef();
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return current_context(&out->context);
  auto *stream = static_cast<Stream *>(handle);
  if (const int error = check_handle(call, "the stream", stream); error != kOk) return error;
  out->stream = stream;
  out->context = stream->context;
  return kOk;
}

// A cubin runs on the same major version and no lower minor one, sm_90a on 9.0 only; PTX on all later.
bool runs_on(const Image &image, int arch) {
  if (image.exact) return image.arch == arch;
  if (image.kind == Kind::kPtx) return image.arch <= arch;
  return image.arch / 10 == arch / 10 && image.arch <= arch;
}

}  // namespace fakes
