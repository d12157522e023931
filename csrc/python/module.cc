// kpack._runtime: forwards to the C API. No logic, no policy: what a value may be is the runtime's to say, what a
// status becomes is kpack/runtime.py's.
#include <kpack/kpack.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "explain.h"
#include "library.h"
#include "values.h"
#include "view.h"

namespace py = pybind11;

namespace {

using kpk::python::argument;
using kpk::python::Arguments;
using kpk::python::Error;
using kpk::python::stream_address;

// ---- kernels and packs

struct Kernel {
  const kpk_kernel *kernel;
};

std::string prototype(const Kernel &self) {
  std::string text(kpk_kernel_prototype(self.kernel, nullptr, 0) + 1, '\0');
  text.resize(kpk_kernel_prototype(self.kernel, text.data(), text.size()));
  return text;
}

// Fills `call` with `args`, to be used on `stream`.
void convert_all(const Kernel &self, const py::tuple &args, const void *stream, Arguments *call) {
  call->values.reserve(args.size());
  for (size_t i = 0; i < args.size(); ++i) {
    try {
      call->values.push_back(argument(args[i], stream, call));
    } catch (const Error &error) {
      throw Error(std::string(kpk_kernel_name(self.kernel)) + ": argument " + std::to_string(i + 1) + ": " +
                  error.what());
    }
  }
}

int launch(const Kernel &self, const py::tuple &args, py::handle stream) {
  const kpk_stream on = {stream_address(stream), KPK_VENDOR_ANY, 0};
  Arguments call;
  convert_all(self, args, on.handle, &call);
  const py::gil_scoped_release released;
  return kpk_launch(self.kernel, on, call.values.data(), static_cast<uint32_t>(call.values.size()), 0);
}

// Name, outcome, reason, median, samples, and whether it was chosen.
using Trial = std::tuple<std::string, uint32_t, std::string, double, uint32_t, bool>;

// Status, and what became of each contender.
std::pair<int, std::vector<Trial>> tune(const Kernel &self, const py::tuple &args, py::handle stream,
                                        uint32_t flags, uint64_t budget_ns, double tolerance) {
  const kpk_stream on = {stream_address(stream), KPK_VENDOR_ANY, 0};
  Arguments call;
  convert_all(self, args, on.handle, &call);
  std::vector<Trial> trials;
  kpk_tune_options options = {};
  options.size = sizeof options;
  options.flags = flags;
  options.budget_ns = budget_ns;
  options.tolerance = tolerance;
  options.user = &trials;
  options.sink = [](void *user, const kpk_trial *trial) {
    static_cast<std::vector<Trial> *>(user)->emplace_back(
        trial->name, trial->outcome, trial->reason, trial->median_us, trial->samples, trial->chosen != 0);
  };
  const py::gil_scoped_release released;
  const kpk_status status =
      kpk_tune(self.kernel, on, call.values.data(), static_cast<uint32_t>(call.values.size()), &options);
  return {status, trials};
}

std::vector<std::string> parameters(const Kernel &self) {
  const kpk::KernelView view(*self.kernel);
  std::vector<std::string> names;
  for (uint32_t i = 0; i < view.params.size(); ++i) names.emplace_back(kpk::text(view.params[i].name));
  return names;
}

// "hip", or CUDA where it has devices: torch says cuda of AMD's, too.
kpk_device device_of(const std::string &vendor, int ordinal) {
  const bool only_hip = kpk_device_count(KPK_VENDOR_CUDA) == 0 && kpk_device_count(KPK_VENDOR_HIP) != 0;
  return {vendor == "hip" || only_hip ? KPK_VENDOR_HIP : KPK_VENDOR_CUDA, ordinal};
}

using Place = std::pair<std::string, int>;  // vendor and ordinal

// `arch`: a dry device of it instead of `device`; "": of the first target.
std::string explain(const Kernel &self, const py::tuple &args, const Place &device, const char *arch) {
  Arguments call;
  call.host_memory_too = arch != nullptr;
  convert_all(self, args, nullptr, &call);
  const py::gil_scoped_release released;
  const kpk::Where where = {device_of(device.first, device.second), arch};
  const auto count = static_cast<uint32_t>(call.values.size());
  std::string text(4096, '\0');
  size_t length = kpk::explain(self.kernel, where, call.values.data(), count, text.data(), text.size());
  if (length >= text.size()) {
    text.resize(length + 1);
    length = kpk::explain(self.kernel, where, call.values.data(), count, text.data(), text.size());
  }
  text.resize(length);
  return text;
}

bool supports(const Kernel &self, const py::tuple &args, const Place &device, const char *arch) {
  Arguments call;
  call.host_memory_too = arch != nullptr;
  convert_all(self, args, nullptr, &call);
  const py::gil_scoped_release released;
  return kpk::supports(self.kernel, {device_of(device.first, device.second), arch}, call.values.data(),
                       static_cast<uint32_t>(call.values.size()), 0);
}

// The pack behind entry symbol `symbol`, or null if the library does not export it.
const kpk_pack *pack_of(void *library, const std::string &symbol) {
  const void *record = kpk::library_symbol(library, symbol.c_str());
  if (record == nullptr) return nullptr;
  const kpk_pack *pack = kpk_pack_of(static_cast<const kpk_abi_record *>(record));
  if (pack == nullptr) throw Error(kpk_message());
  return pack;
}

// The kernels of that pack, or None.
py::object kernels(void *library, const std::string &symbol) {
  const kpk_pack *pack = pack_of(library, symbol);
  if (pack == nullptr) return py::none();
  py::list found;
  for (uint32_t i = 0; i < kpk_pack_size(pack); ++i) {
    const kpk_kernel *kernel = kpk_pack_kernel(pack, i);
    if (kernel == nullptr) throw Error(kpk_message());
    found.append(Kernel{kernel});
  }
  return found;
}

// Status, and how many images are loaded now.
std::pair<int, uint32_t> preload(void *library, const std::string &symbol, const char *pattern,
                                 const Place &device) {
  const kpk_pack *pack = pack_of(library, symbol);
  uint32_t loaded = 0;
  const py::gil_scoped_release released;
  const kpk_status status = kpk_preload_pack(pack, device_of(device.first, device.second), pattern, &loaded);
  return {status, loaded};
}

// A shared object, never closed: kernels that it has launched may still be running.
struct Library {
  void *handle;
};

Library open(const std::string &path) {
  const char *error = nullptr;
  void *handle = kpk::library_open(path.c_str(), &error);
  if (handle == nullptr) throw Error(error == nullptr ? "does not open" : error);
  return {handle};
}

// Of all devices of both drivers, in their order.
std::vector<std::string> device_archs() {
  const py::gil_scoped_release released;
  std::vector<std::string> archs;
  for (const int32_t vendor : {KPK_VENDOR_CUDA, KPK_VENDOR_HIP}) {
    const int count = kpk_device_count(vendor);
    for (int ordinal = 0; ordinal < count; ++ordinal) {
      if (const char *arch = kpk_device_arch({vendor, ordinal})) archs.emplace_back(arch);
    }
  }
  return archs;
}

int use_dry_driver(const char *arch, bool succeed) { return kpk_use_dry_driver(arch, succeed ? 1 : 0); }

// Mode -1: as the environment says.
int set_tuning(int mode, const char *table, const char *shapes, uint64_t budget_ns, double tolerance) {
  kpk_tuning tuning = {};
  tuning.size = sizeof tuning;
  tuning.mode = static_cast<uint32_t>(mode);
  tuning.table = table;
  tuning.shapes = shapes;
  tuning.budget_ns = budget_ns;
  tuning.tolerance = tolerance;
  return kpk_set_tuning(mode < 0 ? nullptr : &tuning);
}

int reserve_scratch(uint64_t bytes, int device) {
  const py::gil_scoped_release released;
  const bool cuda = kpk_device_count(KPK_VENDOR_CUDA) != 0 || kpk_device_count(KPK_VENDOR_HIP) == 0;
  return kpk_reserve_scratch({cuda ? KPK_VENDOR_CUDA : KPK_VENDOR_HIP, device}, bytes);
}

// Of CUDA and HIP: why it cannot be used ("": it can), its version, and the arch of each device.
using DriverFacts = std::tuple<std::string, int, std::vector<std::string>>;
std::vector<DriverFacts> drivers() {
  const py::gil_scoped_release released;
  const char *no_cuda = nullptr, *no_hip = nullptr;
  kpk::cuda_driver(&no_cuda);
  kpk::hip_driver(&no_hip);
  const auto facts = [](int32_t vendor, const char *why, int version) {
    std::vector<std::string> archs;
    for (int ordinal = 0; ordinal < kpk_device_count(vendor); ++ordinal) {
      archs.emplace_back(kpk_device_arch({vendor, ordinal}));
    }
    return DriverFacts{why == nullptr ? "" : why, version, archs};
  };
  return {facts(KPK_VENDOR_CUDA, no_cuda, kpk::cuda_version()),
          facts(KPK_VENDOR_HIP, no_hip, kpk::hip_version())};
}

}  // namespace

PYBIND11_MODULE(_runtime, module) {
  py::register_exception<Error>(module, "Error");
  module.attr("OK") = static_cast<int>(KPK_OK);
  module.attr("DRY") = static_cast<int>(KPK_DRY);
  module.attr("ERROR_ARGUMENT") = static_cast<int>(KPK_ERROR_ARGUMENT);
  module.attr("TUNE_SCRATCH") = static_cast<int>(KPK_TUNE_SCRATCH);
  module.attr("TUNE_ALLOCATE") = static_cast<int>(KPK_TUNE_ALLOCATE);
  module.attr("TUNE_EXHAUSTIVE") = static_cast<int>(KPK_TUNE_EXHAUSTIVE);
  module.attr("TUNE_AGAIN") = static_cast<int>(KPK_TUNE_AGAIN);

  py::class_<Kernel>(module, "Kernel")
      .def_property_readonly("name", [](const Kernel &self) { return kpk_kernel_name(self.kernel); })
      .def_property_readonly("prototype", prototype)
      .def_property_readonly("parameters", parameters)
      .def("explain", explain, py::arg("args"), py::arg("device"), py::arg("arch"))
      .def("supports", supports, py::arg("args"), py::arg("device"), py::arg("arch"))
      .def("launch", launch, py::arg("args"), py::arg("stream"))
      .def("tune", tune, py::arg("args"), py::arg("stream"), py::arg("flags"), py::arg("budget_ns"),
           py::arg("tolerance"));
  py::class_<Library>(module, "Library")
      .def("kernels",
           [](const Library &self, const std::string &symbol) { return kernels(self.handle, symbol); })
      .def(
          "preload",
          [](const Library &self, const std::string &symbol, const char *pattern, const Place &device) {
            return preload(self.handle, symbol, pattern, device);
          },
          py::arg("symbol"), py::arg("pattern"), py::arg("device"));

  module.def("open", open, py::arg("path"));
  module.def("message", kpk_message);
  module.def("device_count", [] { return kpk_device_count(KPK_VENDOR_ANY); });
  module.def("device_archs", device_archs);
  module.def("use_dry_driver", use_dry_driver, py::arg("arch"), py::arg("succeed"));
  module.def("set_tuning", set_tuning, py::arg("mode"), py::arg("table"), py::arg("shapes"),
             py::arg("budget_ns"), py::arg("tolerance"));
  module.def("reserve_scratch", reserve_scratch, py::arg("bytes"), py::arg("device"));
  module.def("drivers", drivers);
}
