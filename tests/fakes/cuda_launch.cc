// A launch on the fake CUDA driver, rule by rule in the order in which a caller would want to hear of
// them: handles, context, shape, shared memory, cluster, parameters.
#include <algorithm>

#include "cuda_state.h"

namespace fakes {
namespace {

constexpr uint32_t kMaxThreads = 1024;

struct Shape {
  uint32_t cluster[3] = {1, 1, 1};
  bool clustered = false;
  bool cooperative = false;
  uint32_t attributes = 0;
};

void violate(Call call, const Function &function, const std::string &sentence) {
  recorder().violate(std::string(recorder().name(call)) + ": '" + function.kernel->name + "': " + sentence);
}

Shape read_attributes(const LaunchConfig &config) {
  Shape shape;
  for (uint32_t i = 0; i < config.attribute_count; ++i) {
    const LaunchAttribute &attribute = config.attributes[i];
    if (attribute.id < 32 && attribute.value.flag != 0) shape.attributes |= 1U << attribute.id;
    if (attribute.id == kLaunchCooperative) shape.cooperative = attribute.value.flag != 0;
    if (attribute.id == kLaunchCluster && attribute.value.flag != 0) {
      std::copy_n(attribute.value.cluster, 3, shape.cluster);
      shape.clustered = true;
    }
  }
  return shape;
}

// Where the launch runs: a function in the context it belongs to, which must be current; a kernel in
// the stream's context.
int find_context(Call call, Function *function, void *stream_handle, StreamRef *stream) {
  if (function->context == nullptr) {
    if (const int error = resolve_stream(call, stream_handle, stream); error != kOk) return error;
    if (stream->context->life.load() != Life::kAlive) return kContextIsDestroyed;
    if (!runs_on(*function->image, state().device(stream->context->device)->arch)) return kNoBinaryForGpu;
    if (state().first_use(function->library, stream->context)) recorder().loaded(stream->context->device);
    return kOk;
  }
  Context *current = nullptr;
  if (const int error = current_context(&current); error != kOk) return error;
  if (const int error = resolve_stream(call, stream_handle, stream); error != kOk) return error;
  return function->context == current && stream->context == current ? kOk : kInvalidHandle;
}

int check_block(const LaunchConfig &config, const Kernel &kernel) {
  const uint32_t *grid = config.grid;
  const uint32_t *block = config.block;
  if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0) return kInvalidValue;
  if (grid[0] > 0x7fffffffU || grid[1] > 65535 || grid[2] > 65535) return kInvalidValue;
  if (block[0] == 0 || block[1] == 0 || block[2] == 0) return kInvalidValue;
  if (block[0] > kMaxThreads || block[1] > kMaxThreads || block[2] > 64) return kInvalidValue;
  const uint32_t most = kernel.max_threads != 0 ? std::min(kernel.max_threads, kMaxThreads) : kMaxThreads;
  if (block[0] * block[1] * block[2] > most) return kInvalidValue;
  const uint32_t *required = kernel.required_block;  // .reqntid: exactly so
  return required[0] == 0 || std::equal(block, block + 3, required) ? kOk : kInvalidValue;
}

int check_cluster(const LaunchConfig &config, const Shape &shape, const Device &device, Function *function) {
  if (!shape.clustered) return kOk;
  const uint32_t ctas = shape.cluster[0] * shape.cluster[1] * shape.cluster[2];
  if (device.arch < 90 || ctas == 0 || ctas > 16) return kInvalidClusterSize;
  if (ctas > 8 && function->attributes().non_portable_cluster.load() == 0) return kInvalidClusterSize;
  for (unsigned i = 0; i < 3; ++i) {
    if (config.grid[i] % shape.cluster[i] != 0) return kInvalidValue;
  }
  return kOk;
}

uint32_t blocks_at_once(const Kernel &kernel, uint32_t threads, size_t shared_bytes, const Device &device) {
  uint32_t resident = static_cast<uint32_t>(device.threads_per_multiprocessor) / threads;
  const size_t shared = shared_bytes + kernel.static_shared_bytes;
  if (shared == 0) return resident;
  return std::min(resident,
                  static_cast<uint32_t>(static_cast<size_t>(device.shared_per_multiprocessor) / shared));
}

// A cooperative grid must be resident as a whole.
bool fits_at_once(const LaunchConfig &config, const Device &device, const Kernel &kernel) {
  const uint64_t blocks = uint64_t{config.grid[0]} * config.grid[1] * config.grid[2];
  const uint32_t threads = config.block[0] * config.block[1] * config.block[2];
  const uint32_t resident = blocks_at_once(kernel, threads, config.shared_bytes, device);
  return blocks <= uint64_t{resident} * static_cast<uint32_t>(device.multiprocessors);
}

int check_arguments(Call call, const Function &function, void **params, void **extra, Arguments *out) {
  const Kernel &kernel = *function.kernel;
  if (params != nullptr && extra != nullptr) return kInvalidValue;
  if (params == nullptr && extra == nullptr) {
    if (kernel.params.empty()) return kOk;
    violate(call, function, "launched without its " + std::to_string(kernel.params.size()) + " parameters");
    return kInvalidValue;
  }
  out->pointers = params;
  if (extra == nullptr) return kOk;
  if (!read_extra(extra, true, 0, out)) return kInvalidValue;
  if (out->block_bytes == kernel.param_bytes) return kOk;
  violate(call, function,
          "expected a parameter buffer of " + std::to_string(kernel.param_bytes) + " bytes, got " +
              std::to_string(out->block_bytes));
  // A real driver takes a block that is too short, and reads past it.
  if (out->block_bytes > kernel.param_bytes) return kOutOfResources;
  return kInvalidValue;
}

// Keeps the launch; reads the arguments, so that a sanitizer sees a pointer that is too short, and an image
// that the driver was given to keep.
int keep(Call call, const LaunchConfig &config, const Shape &shape, const Function &function,
         const StreamRef &stream, const Arguments &arguments) {
  if (function.library != nullptr && function.library->preserved) {
    check_intact(recorder().name(call), function.library->image);
  }
  Launch launch;
  if (!copy_arguments(*function.kernel, arguments, &launch.params)) {
    violate(call, function, "a pointer in kernelParams is null");
    return kInvalidValue;
  }
  const bool captured = stream.stream != nullptr && stream.stream->capture.status.load() != kNone;
  for (const fake_param &param : function.kernel->params) {
    if (param.size != sizeof(uint64_t)) continue;
    const uint64_t value = load<uint64_t>(launch.params.data() + param.offset);
    const std::string fault = state().memory.fault(value, stream.context->device, captured);
    if (!fault.empty()) violate(call, function, fault);
  }
  // Nothing else that is passed by value is so large.
  for (const fake_param &param : function.kernel->params) {
    if (param.size != sizeof(fake_map)) continue;
    const std::string fault = map_fault(launch.params.data() + param.offset);
    if (!fault.empty()) violate(call, function, fault);
  }
  launch.function = function.kernel->name;
  fake_launch &facts = launch.facts;
  facts.call = recorder().name(call);
  facts.image = function.image->checksum;
  std::copy_n(config.grid, 3, facts.grid);
  std::copy_n(config.block, 3, facts.block);
  std::copy_n(shape.cluster, 3, facts.cluster);
  facts.shared_bytes = config.shared_bytes;
  facts.attributes = shape.attributes;
  facts.device = stream.context->device;
  facts.cooperative = shape.cooperative ? 1 : 0;
  facts.captured = captured ? 1 : 0;
  facts.packed = arguments.pointers == nullptr ? 1 : 0;
  facts.stream = config.stream;
  facts.context = stream.context;
  facts.layout = function.kernel->params.data();
  facts.param_count = static_cast<uint32_t>(function.kernel->params.size());
  return run_kernel(std::move(launch));
}

}  // namespace

int max_active_blocks(const Function &function, int threads, size_t shared_bytes, const Device &device,
                      int *out) {
  if (threads <= 0) return kInvalidValue;
  *out = static_cast<int>(
      blocks_at_once(*function.kernel, static_cast<uint32_t>(threads), shared_bytes, device));
  return kOk;
}

// As many as have their blocks, in a device whose multiprocessors come in groups of 16.
int max_active_clusters(const LaunchConfig &config, Function &function, const Device &device, int *out) {
  const Shape shape = read_attributes(config);
  if (!shape.clustered) return kInvalidClusterSize;
  if (const int error = check_cluster(config, shape, device, &function); error != kOk) return error;
  if (const int error = check_block(config, *function.kernel); error != kOk) return error;
  const int64_t said = state().max_clusters.load();
  const int ctas = static_cast<int>(shape.cluster[0] * shape.cluster[1] * shape.cluster[2]);
  *out = said >= 0 ? static_cast<int>(said) : device.multiprocessors / 16 * (16 / ctas);
  return kOk;
}

int launch(Call call, const LaunchConfig &config, void *handle, void **params, void **extra) {
  auto *function = static_cast<Function *>(handle);
  if (const int error = check_handle(call, "the function", function); error != kOk) return error;
  StreamRef stream;
  if (const int error = find_context(call, function, config.stream, &stream); error != kOk) return error;
  if (stream.stream != nullptr) {
    if (stream.stream->capture.status.load() == kInvalidated) return kCaptureInvalidated;
  } else if (state().implicit_capture(stream.context)) {
    return kCaptureImplicit;
  }
  const Kernel &kernel = *function->kernel;
  const Device &device = *state().device(stream.context->device);
  if (const int error = check_block(config, kernel); error != kOk) return error;
  const int most =
      function->attributes().max_dynamic_shared[static_cast<size_t>(stream.context->device)].load();
  if (config.shared_bytes > static_cast<uint32_t>(most)) return kInvalidValue;
  const Shape shape = read_attributes(config);
  if (const int error = check_cluster(config, shape, device, function); error != kOk) return error;
  if (shape.cooperative && !fits_at_once(config, device, kernel)) return kCooperativeLaunchTooLarge;
  Arguments arguments;
  if (const int error = check_arguments(call, *function, params, extra, &arguments); error != kOk)
    return error;
  if (const int error = kernel_error(kernel.name); error != kOk) return error;
  if (!recorder().recording() && !kernels().any()) return kOk;
  return keep(call, config, shape, *function, stream, arguments);
}

}  // namespace fakes
