// A launch on the fake HIP runtime, rule by rule.
#include <algorithm>

#include "hip_state.h"

namespace fakes {
namespace {

constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kThreadsPerMultiprocessor = 2048;

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

int check_shape(Call call, const LaunchConfig &config, const Function &function, const Device &device) {
  const uint32_t *grid = config.grid;
  const uint32_t *block = config.block;
  const Kernel &kernel = *function.kernel;
  if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0) return kInvalidValue;
  if (block[0] == 0 || block[1] == 0 || block[2] == 0) return kInvalidValue;
  if (grid[0] > 0x7fffffffU || grid[1] > 65536 || grid[2] > 65536) return kInvalidConfiguration;
  // The dispatch packet counts threads, in 32 bits.
  if (uint64_t{grid[0]} * block[0] > 0xffffffffU) return kInvalidConfiguration;
  const uint64_t threads = uint64_t{block[0]} * block[1] * block[2];
  if (threads > kMaxThreads) return kInvalidValue;
  if (kernel.max_threads != 0 && threads > kernel.max_threads) return kLaunchFailure;
  if (uint64_t{config.shared_bytes} + kernel.static_shared_bytes > device.shared_bytes) return kInvalidValue;
  if (kernel.wavefront != 0 && block[0] % kernel.wavefront != 0) {
    violate(call, function,
            "a block of " + std::to_string(block[0]) + " threads is no multiple of the image's " +
                std::to_string(kernel.wavefront) + " threads of a wavefront");
  }
  return kOk;
}

// Only gfx1250 has clusters; their limits are those of CUDA's, as long as nobody says otherwise.
int check_cluster(const LaunchConfig &config, const Shape &shape, const Device &device) {
  if (!shape.clustered) return kOk;
  if (device.arch_name.compare(0, 7, "gfx1250") != 0) return kNotSupported;
  const uint32_t ctas = shape.cluster[0] * shape.cluster[1] * shape.cluster[2];
  if (ctas == 0 || ctas > 16) return kInvalidConfiguration;
  for (unsigned i = 0; i < 3; ++i) {
    if (config.grid[i] % shape.cluster[i] != 0) return kInvalidConfiguration;
  }
  return kOk;
}

bool fits_at_once(const LaunchConfig &config, const Device &device, const Kernel &kernel) {
  const uint64_t blocks = uint64_t{config.grid[0]} * config.grid[1] * config.grid[2];
  const uint32_t threads = config.block[0] * config.block[1] * config.block[2];
  return blocks <=
         uint64_t{blocks_at_once(kernel, threads, config.shared_bytes, device)} * device.multiprocessors;
}

int check_arguments(Call call, const Function &function, void **params, void **extra, Arguments *out) {
  const Kernel &kernel = *function.kernel;
  if (params != nullptr && extra != nullptr) return kInvalidValue;
  if (params == nullptr && extra == nullptr) {
    if (kernel.params.empty()) return kOk;
    violate(call, function, "launched without its " + std::to_string(kernel.params.size()) + " arguments");
    return kInvalidValue;
  }
  out->pointers = params;
  if (extra == nullptr) return kOk;
  if (!read_extra(extra, false, 3, out)) {
    violate(call, function, "expected extra = {1, buffer, 2, &bytes, 3}, in this order");
    return kInvalidValue;
  }
  if (out->block_bytes >= kernel.least_param_bytes && out->block_bytes <= kernel.param_bytes) return kOk;
  violate(call, function,
          "expected an argument buffer of " + std::to_string(kernel.least_param_bytes) + " to " +
              std::to_string(kernel.param_bytes) + " bytes, got " + std::to_string(out->block_bytes));
  return kInvalidValue;
}

// Keeps the launch; reads the arguments, so that a sanitizer sees a pointer that is too short, and the
// image, so that one that was freed or changed is found.
int keep(Call call, const LaunchConfig &config, const Shape &shape, const Function &function,
         const StreamRef &stream, const Arguments &arguments) {
  check_intact(recorder().name(call), function.module->image);
  Launch launch;
  if (!copy_arguments(*function.kernel, arguments, &launch.params)) {
    violate(call, function, "a pointer in kernelParams is null");
    return kInvalidValue;
  }
  const bool captured = stream.stream != nullptr && stream.stream->capture.status.load() != kNone;
  for (const fake_param &param : function.kernel->params) {
    if (param.size != sizeof(uint64_t)) continue;
    const uint64_t value = load<uint64_t>(launch.params.data() + param.offset);
    const std::string fault = state().memory.fault(value, stream.device, captured);
    if (!fault.empty()) violate(call, function, fault);
  }
  launch.function = function.kernel->name;
  fake_launch &facts = launch.facts;
  facts.call = recorder().name(call);
  facts.image = function.module->image.checksum;
  std::copy_n(config.grid, 3, facts.grid);
  std::copy_n(config.block, 3, facts.block);
  std::copy_n(shape.cluster, 3, facts.cluster);
  facts.shared_bytes = config.shared_bytes;
  facts.attributes = shape.attributes;
  facts.device = stream.device;
  facts.cooperative = shape.cooperative ? 1 : 0;
  facts.captured = captured ? 1 : 0;
  facts.packed = arguments.pointers == nullptr ? 1 : 0;
  facts.stream = config.stream;
  facts.layout = function.kernel->params.data();
  facts.param_count = static_cast<uint32_t>(function.kernel->params.size());
  return run_kernel(std::move(launch));
}

}  // namespace

uint32_t blocks_at_once(const Kernel &kernel, uint32_t threads, size_t shared_bytes, const Device &device) {
  const uint32_t resident = kThreadsPerMultiprocessor / threads;
  const uint32_t shared = static_cast<uint32_t>(shared_bytes) + kernel.static_shared_bytes;
  return shared != 0 ? std::min(resident, device.shared_bytes / shared) : resident;
}

int launch(Call call, const LaunchConfig &config, void *handle, void **params, void **extra) {
  StreamRef stream;
  if (const int error = resolve_stream(call, config.stream, &stream); error != kOk) return error;
  if (stream.stream != nullptr && stream.stream->capture.status.load() == kInvalidated)
    return kCaptureInvalidated;
  // CLR: the stream's device must be the current one.
  if (stream.device != current_device()) return kInvalidHandle;
  auto *function = static_cast<Function *>(handle);
  if (const int error = check_handle(call, "the function", function); error != kOk) return error;
  const Device &device = *state().device(stream.device);
  if (const int error = check_shape(call, config, *function, device); error != kOk) return error;
  if (function->module->device != stream.device) {
    violate(call, *function,
            "loaded on device " + std::to_string(function->module->device) + ", launched on device " +
                std::to_string(stream.device));
    return kInvalidDevice;
  }
  Shape shape = read_attributes(config);
  shape.cooperative = shape.cooperative || call == k_hipModuleLaunchCooperativeKernel;
  if (const int error = check_cluster(config, shape, device); error != kOk) return error;
  if (shape.cooperative && !fits_at_once(config, device, *function->kernel))
    return kCooperativeLaunchTooLarge;
  Arguments arguments;
  if (const int error = check_arguments(call, *function, params, extra, &arguments); error != kOk)
    return error;
  if (const int error = kernel_error(function->kernel->name); error != kOk) return error;
  if (!recorder().recording() && !kernels().any()) return kOk;
  return keep(call, config, shape, *function, stream, arguments);
}

}  // namespace fakes
