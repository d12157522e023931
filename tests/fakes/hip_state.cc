// The machine's book-keeping.
#include "hip_state.h"

#include <cstdio>
#include <cstdlib>

namespace fakes {
namespace {

const Entry kEntries[] = {
#define FAKE_X(name, since) {#name, since},
    HIP_CALLS(FAKE_X)
#undef FAKE_X
};

constexpr char kDefault[] = "gfx90a:sramecc+:xnack-";
#ifdef FAKE_OLD
constexpr int kDefaultVersion = 50200000;
#else
constexpr int kDefaultVersion = 70100000;
#endif

// e_flags & 0xff of a processor: EF_AMDGPU_MACH_AMDGCN_* of LLVM's AMDGPU documentation.
struct Processor {
  const char *name;
  uint32_t mach;
  uint32_t multiprocessors;
  uint32_t shared_bytes;
};
constexpr Processor kProcessors[] = {
    {"gfx900", 0x2c, 64, 65536},    {"gfx906", 0x2f, 60, 65536},  {"gfx908", 0x30, 120, 65536},
    {"gfx90a", 0x3f, 104, 65536},   {"gfx942", 0x4c, 304, 65536}, {"gfx950", 0x4f, 256, 163840},
    {"gfx1030", 0x36, 40, 65536},   {"gfx1100", 0x41, 48, 65536}, {"gfx1101", 0x46, 30, 65536},
    {"gfx1102", 0x47, 16, 65536},   {"gfx1103", 0x44, 6, 65536},  {"gfx1150", 0x43, 8, 65536},
    {"gfx1151", 0x4a, 20, 65536},   {"gfx1200", 0x48, 16, 65536}, {"gfx1201", 0x4e, 32, 65536},
    {"gfx1250", 0x49, 256, 327680},
};

// "gfx90a" is 9.0, "gfx1151" is 11.5: all but the last two digits, then the next one.
void read_version(const std::string &processor, Device *device) {
  const std::string digits = processor.substr(3);
  const size_t major_digits = digits.size() - 2;
  device->major = std::atoi(digits.substr(0, major_digits).c_str());
  device->minor = std::atoi(digits.substr(major_digits, 1).c_str());
}

Device make_device(const std::string &name) {
  Device device;
  device.arch_name = name;
  const std::string processor = name.substr(0, name.find(':'));
  for (const Processor &row : kProcessors) {
    if (processor != row.name) continue;
    device.processor = row.mach;
    device.multiprocessors = row.multiprocessors;
    device.shared_bytes = row.shared_bytes;
  }
  if (device.processor == 0) {
    std::fprintf(stderr, "FAKE_HIP: expected a device such as gfx90a:sramecc+:xnack-, got '%s'\n",
                 name.c_str());
    std::abort();
  }
  read_version(processor, &device);
  device.warp_size = device.major >= 10 ? 32 : 64;
  const auto feature = [&](const char *word) {
    const size_t at = name.find(word);
    return at == std::string::npos ? '\0' : name[at + std::char_traits<char>::length(word)];
  };
  device.xnack = feature(":xnack");
  device.sramecc = feature(":sramecc");
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

bool feature_fits(uint32_t object, char device) {
  enum { kUnsupported = 0, kAny = 1, kOff = 2, kOn = 3 };
  if (object == kUnsupported || object == kAny) return true;
  return device == (object == kOn ? '+' : '-');
}

}  // namespace

Recorder &recorder() {
  static Recorder *const one =
      new Recorder("hip", kEntries, static_cast<unsigned>(sizeof kEntries / sizeof kEntries[0]));
  return *one;
}

State &state() {
  static State *const one = new State();  // never destroyed: programs launch from their own destructors
  return *one;
}

int &current_device() {
  thread_local int device = 0;
  return device;
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
  if (name == "memory" || name.empty()) {
    state().memory.set_capacity(name.empty() ? kCapacity : static_cast<uint64_t>(value));
  }
  if (name == "capture_allocation" || name.empty()) state().capture_allocation_error.store(value);
}

State::State() { configure(nullptr); }

void State::configure(const char *text) {
  const Configuration configuration = parse_configuration(configuration_text(text, "FAKE_HIP", kDefault));
  Machine machine;
  machine.version = kDefaultVersion;
  for (const auto &[name, value] : configuration.settings) {
    if (name == "driver") machine.version = static_cast<int>(value);
    if (name == "file_backed") file_backed_error.store(value);
    if (name == "memory") memory.set_capacity(static_cast<uint64_t>(value));
  }
  for (const std::string &name : configuration.devices) machine.devices.push_back(make_device(name));
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Stream &stream : streams_) kill(stream);
  for (Event &event : events_) kill(event);
  for (Module &module : modules_) kill(module);
  for (Function &function : functions_) kill(function);
  captures.clear();
  memory.clear();
  current_device() = 0;
  machine_.store(&machines_.emplace_back(std::move(machine)), std::memory_order_release);
  recorder().set_version(machines_.back().version);
}

const Device *State::device(int ordinal) const {
  const std::vector<Device> &devices = machine().devices;
  const auto index = static_cast<size_t>(ordinal);
  return ordinal >= 0 && index < devices.size() ? &devices[index] : nullptr;
}

Stream *State::create_stream(int device) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Stream &stream = streams_.emplace_back();
  stream.device = device;
  return &stream;
}

Event *State::create_event(int device) {
  timeline().start();
  const std::lock_guard<std::mutex> lock(mutex_);
  Event &event = events_.emplace_back();
  event.device = device;
  return &event;
}

Module *State::create_module(int device, Image image) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Module &module = modules_.emplace_back();
  module.device = device;
  module.image = std::move(image);
  return &module;
}

void State::destroy(Module *module) {
  const std::lock_guard<std::mutex> lock(mutex_);
  kill(*module);
  for (Function &function : functions_) {
    if (function.module == module) kill(function);
  }
}

Function *State::function(Module *module, const std::string &name) {
  const Kernel *kernel = module->image.find(name);
  if (kernel == nullptr) return nullptr;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Function &known : functions_) {
    if (known.kernel == kernel && known.module == module) return &known;
  }
  Function &function = functions_.emplace_back();
  function.kernel = kernel;
  function.module = module;
  return &function;
}

uint64_t State::live(const std::string &what) {
  if (what == "memory") return memory.live();
  if (what == "pool") return memory.live_pools();
  if (what == "reserved") return memory.reserved();
  if (what == "host_ns") return timeline().host_ns();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (what == "stream") return count_alive(streams_);
  if (what == "event") return count_alive(events_);
  return what == "module" ? count_alive(modules_) : 0;
}

int resolve_stream(Call call, void *handle, StreamRef *out) {
  *out = StreamRef();
  out->device = current_device();
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return kOk;
  auto *stream = static_cast<Stream *>(handle);
  if (const int error = check_handle(call, "the stream", stream, kContextIsDestroyed); error != kOk)
    return error;
  out->stream = stream;
  out->device = stream->device;
  return kOk;
}

bool runs_on(uint32_t elf_flags, const Device &device) {
  return (elf_flags & 0xff) == device.processor && feature_fits(elf_flags >> 8 & 3, device.xnack) &&
         feature_fits(elf_flags >> 10 & 3, device.sramecc);
}

}  // namespace fakes
