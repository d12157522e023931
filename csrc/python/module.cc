// kpack._runtime: turns Python's values into those of the C API and forwards them. No logic, no policy: what a
// value may be is the runtime's to say, what a status becomes is kpack/runtime.py's.
#include <kpack/kpack.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <deque>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "explain.h"
#include "library.h"
#include "view.h"

namespace py = pybind11;

namespace {

// What has no kpk_status: a value that is none of the kinds a call takes, a file that does not open.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What code of the caller's has raised, "KeyError: 'typestr'": as a value's fault. Ctrl-C and exit go on.
Error fault_of(const py::error_already_set &raised) {
  if (!raised.matches(PyExc_Exception)) throw raised;
  return Error("got " + std::string(py::str(raised.type().attr("__name__"))) + ": " +
               std::string(py::str(raised.value())));
}

std::string type_of(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

// ---- element types

struct NamedType {
  const char *name;
  uint8_t type;
};

// As str() of a dtype of torch ("torch." cut off), numpy and ml_dtypes has them; then as Triton and kpack do.
constexpr NamedType kDtypes[] = {
    {"bool", KPK_I1},
    {"int8", KPK_I8},
    {"int16", KPK_I16},
    {"int32", KPK_I32},
    {"int64", KPK_I64},
    {"uint8", KPK_U8},
    {"uint16", KPK_U16},
    {"uint32", KPK_U32},
    {"uint64", KPK_U64},
    {"float16", KPK_FP16},
    {"bfloat16", KPK_BF16},
    {"float32", KPK_FP32},
    {"float64", KPK_FP64},
    {"float8_e4m3fn", KPK_FP8E4NV},
    {"float8_e5m2", KPK_FP8E5},
    {"float8_e4m3fnuz", KPK_FP8E4B8},
    {"float8_e5m2fnuz", KPK_FP8E5B16},
    {"i1", KPK_I1},
    {"i8", KPK_I8},
    {"i16", KPK_I16},
    {"i32", KPK_I32},
    {"i64", KPK_I64},
    {"u8", KPK_U8},
    {"u16", KPK_U16},
    {"u32", KPK_U32},
    {"u64", KPK_U64},
    {"fp16", KPK_FP16},
    {"bf16", KPK_BF16},
    {"fp32", KPK_FP32},
    {"fp64", KPK_FP64},
    {"fp8e4nv", KPK_FP8E4NV},
    {"fp8e5", KPK_FP8E5},
    {"fp8e4b8", KPK_FP8E4B8},
    {"fp8e5b16", KPK_FP8E5B16},
    {"fp8e4b15", KPK_FP8E4B15},
};

// As the type string of __cuda_array_interface__ has them, byte order cut off.
constexpr NamedType kTypestrs[] = {
    {"b1", KPK_I1},  {"i1", KPK_I8},  {"i2", KPK_I16}, {"i4", KPK_I32},  {"i8", KPK_I64},  {"u1", KPK_U8},
    {"u2", KPK_U16}, {"u4", KPK_U32}, {"u8", KPK_U64}, {"f2", KPK_FP16}, {"f4", KPK_FP32}, {"f8", KPK_FP64},
};

template <size_t N>
std::optional<uint8_t> find(const NamedType (&table)[N], const char *name) {
  for (const NamedType &row : table) {
    if (std::strcmp(row.name, name) == 0) return row.type;
  }
  return std::nullopt;
}

std::optional<uint8_t> dtype_code(py::handle dtype) {
  // str() costs more than the rest of a conversion; dtypes are few and live for ever. Leaked: a static object
  // would be released after the interpreter is gone.
  static py::dict &known = *new py::dict();
  if (PyObject *code = PyDict_GetItemWithError(known.ptr(), dtype.ptr())) {
    return static_cast<uint8_t>(PyLong_AsLong(code));
  }
  PyErr_Clear();  // not hashable: then it is no dtype either, as the table will say
  const std::string name = py::str(dtype);
  const std::optional<uint8_t> code = find(kDtypes, name.c_str() + name.rfind('.') + 1);
  if (code) known[dtype] = *code;
  return code;
}

// ---- values of a call

// The arguments of one call, and what has to live until it has been made.
struct Arguments {
  std::vector<kpk_arg> values;
  std::vector<py::object> alive;
  std::deque<kpk_tensor> tensors;  // which does not move them
  bool host_memory_too = false;    // nothing will reach it
};

kpk_arg value(uint8_t type, uint64_t bits, uint8_t flags = 0) { return {bits, type, flags, 0, 0}; }

kpk_arg pointer(uint8_t element, uint64_t address, bool read_only = false) {
  return value(static_cast<uint8_t>(KPK_POINTER | element), address, read_only ? KPK_PARAM_CONST : 0);
}

kpk_arg from_integer(py::handle object) {
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(object.ptr(), &overflow);
  if (overflow == 0) return value(KPK_I64, static_cast<uint64_t>(number));
  const unsigned long long large = PyLong_AsUnsignedLongLong(object.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw Error("expected an integer of 64 bits, got " + std::string(py::str(object)));
  }
  return value(KPK_U64, large);
}

kpk_arg from_float(double number) {
  uint64_t bits = 0;
  std::memcpy(&bits, &number, sizeof bits);
  return value(KPK_FP64, bits);
}

kpk_arg from_text(py::handle object) {
  const char *text = PyUnicode_AsUTF8(object.ptr());  // lives as long as the object
  if (text == nullptr) throw py::error_already_set();
  return value(KPK_STRING, reinterpret_cast<uintptr_t>(text));
}

// A GPU cannot reach a program's own memory; the dry driver reaches none at all.
void refuse_host_memory(const Arguments &call, const std::string &device) {
  if (kpk_is_dry() == 0 && !call.host_memory_too)
    throw Error("expected memory of a GPU, got memory of " + device);
}

// Memory of a GPU, as torch says it: AMD's is cuda, too. What says nothing is taken at its word.
void check_torch_device(py::handle object, const Arguments &call) {
  const py::object is_cuda = py::getattr(object, "is_cuda", py::none());
  if (is_cuda.ptr() == Py_True) return;
  const py::object device = py::getattr(object, "device", py::none());
  const py::object type = py::getattr(device, "type", py::none());
  const std::string name = type.is_none() ? "" : std::string(py::str(type));
  if (name == "meta") throw Error("expected memory of a GPU, got a meta tensor, which has no memory");
  if (name == "cuda" || name == "hip" || (name.empty() && is_cuda.is_none())) return;
  refuse_host_memory(call, "device " + (name.empty() ? "cpu" : name));
}

// torch.Tensor, and what looks like one.
kpk_arg from_data_ptr(py::handle object, py::handle data_ptr, const Arguments &call) {
  check_torch_device(object, call);
  const py::object dtype = py::getattr(object, "dtype", py::none());
  const std::optional<uint8_t> type = dtype_code(dtype);
  if (!type) throw Error("expected a tensor of a type that Triton has, got " + std::string(py::str(dtype)));
  return pointer(*type, data_ptr().cast<uint64_t>());
}

kpk_arg from_cuda_array(const py::dict &interface) {
  const std::string typestr = py::str(interface["typestr"]);
  if (typestr.rfind('>', 0) == 0) {
    throw Error("expected an array of little-endian numbers, got typestr '" + typestr + "'");
  }
  const std::optional<uint8_t> type = find(kTypestrs, typestr.empty() ? "" : typestr.c_str() + 1);
  if (!type) throw Error("expected an array of a type that Triton has, got typestr '" + typestr + "'");
  const py::tuple data = interface["data"];
  return pointer(*type, data[0].is_none() ? 0 : data[0].cast<uint64_t>(), data[1].cast<bool>());
}

// kpack.runtime.Pointer: (type, address, whether it is const).
kpk_arg from_pointer(const py::tuple &pointer_of) {
  const std::string name = py::str(pointer_of[0]);
  const std::optional<uint8_t> type = find(kDtypes, name.c_str());
  if (!type) throw Error("expected a pointer to a type that Triton has, got " + name);
  return pointer(*type, pointer_of[1].cast<uint64_t>(), pointer_of[2].cast<bool>());
}

// ---- DLPack, as its specification lays the structs out: the part that is read here

constexpr int kDLCpu = 1, kDLCuda = 2, kDLRocm = 10;
// Memory of a GPU, memory of the host that is pinned for it, and memory of both.
constexpr int kDLReachable[] = {kDLCuda, 3, kDLRocm, 11, 13};

struct DLTensor {
  void *data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};

std::optional<uint8_t> dlpack_type(const DLTensor &tensor) {
  constexpr NamedType table[] = {
      {"0:8", KPK_I8},        {"0:16", KPK_I16},     {"0:32", KPK_I32},     {"0:64", KPK_I64},
      {"1:8", KPK_U8},        {"1:16", KPK_U16},     {"1:32", KPK_U32},     {"1:64", KPK_U64},
      {"2:16", KPK_FP16},     {"2:32", KPK_FP32},    {"2:64", KPK_FP64},    {"4:16", KPK_BF16},
      {"6:8", KPK_I1},        {"10:8", KPK_FP8E4NV}, {"11:8", KPK_FP8E4B8}, {"12:8", KPK_FP8E5},
      {"13:8", KPK_FP8E5B16},
  };
  const std::string name = std::to_string(tensor.code) + ":" + std::to_string(tensor.bits);
  return tensor.lanes == 1 ? find(table, name.c_str()) : std::nullopt;
}

void check_dlpack_device(int device, const Arguments &call) {
  for (const int reachable : kDLReachable) {
    if (device == reachable) return;
  }
  refuse_host_memory(call, device == kDLCpu ? "device cpu" : "DLPack device type " + std::to_string(device));
}

// What a producer is asked to wait with: the stream as DLPack counts, where CUDA's default stream is 1.
py::object dlpack_stream(int device, const void *stream) {
  if (device != kDLCuda && device != kDLRocm) return py::none();
  return py::int_(stream == nullptr && device == kDLCuda ? 1 : reinterpret_cast<uintptr_t>(stream));
}

kpk_arg from_dlpack(py::handle object, const void *stream, Arguments *call) {
  const int device = object.attr("__dlpack_device__")().cast<py::tuple>()[0].cast<int>();
  check_dlpack_device(device, *call);
  const py::object capsule = object.attr("__dlpack__")(py::arg("stream") = dlpack_stream(device, stream));
  // Only borrowed: a capsule that nobody has renamed gives its tensor back when it goes.
  void *managed = PyCapsule_GetPointer(capsule.ptr(), "dltensor");
  if (managed == nullptr) throw py::error_already_set();
  call->alive.push_back(capsule);
  const DLTensor &tensor = *static_cast<const DLTensor *>(managed);  // the first field of DLManagedTensor
  const std::optional<uint8_t> type = dlpack_type(tensor);
  if (!type) {
    throw Error("expected a DLPack tensor of a type that Triton has, got code " +
                std::to_string(tensor.code) + ", " + std::to_string(tensor.bits) + " bits, " +
                std::to_string(tensor.lanes) + " lanes");
  }
  return pointer(*type, reinterpret_cast<uintptr_t>(tensor.data) + tensor.byte_offset);
}

// ---- descriptors

kpk_arg convert(py::handle object, const void *stream, Arguments *call);

// Fills `out` from a sequence of integers; how many there are.
size_t read_sizes(const char *name, py::handle sizes, int64_t (&out)[5]) {
  size_t count = 0;
  for (const py::handle size : sizes) {
    const long long number = PyLong_AsLongLong(size.ptr());  // asks __index__
    if (number == -1 && PyErr_Occurred() != nullptr) {
      PyErr_Clear();
      throw Error(std::string(name) + ": expected integers of 64 bits, got " + std::string(py::str(sizes)));
    }
    if (count < sizeof out / sizeof *out) out[count] = number;
    ++count;
  }
  return count;
}

// kpack.TensorDescriptor, and Triton's own, which has the same fields and more.
kpk_arg from_descriptor(py::handle object, const void *stream, Arguments *call) {
  const py::object base = object.attr("base");
  const kpk_arg data = convert(base, stream, call);
  if ((data.type & KPK_POINTER) == 0)
    throw Error("expected a descriptor of a tensor, got one of " + type_of(base));
  kpk_tensor tensor = {};
  tensor.address = data.bits;
  const size_t rank = read_sizes("shape", object.attr("shape"), tensor.shape);
  const size_t strides = read_sizes("strides", object.attr("strides"), tensor.strides);
  const std::string padding = py::str(object.attr("padding"));
  if (rank != strides || rank > UINT8_MAX) {
    throw Error("expected as many strides as sizes, got " + std::to_string(strides) + " and " +
                std::to_string(rank));
  }
  if (padding != "zero" && padding != "nan")
    throw Error("padding: expected 'zero' or 'nan', got '" + padding + "'");
  // Triton's has it from 3.7 on.
  const bool rounds = py::hasattr(object, "round_f32_to_tf32") &&
                      PyObject_IsTrue(object.attr("round_f32_to_tf32").ptr()) == 1;
  tensor.rank = static_cast<uint8_t>(rank);
  tensor.flags = static_cast<uint8_t>((padding == "nan" ? KPK_TENSOR_NAN_PADDING : 0) |
                                      (rounds ? KPK_TENSOR_ROUND_TF32 : 0));
  call->tensors.push_back(tensor);
  return value(static_cast<uint8_t>(KPK_TENSORDESC | (data.type & ~KPK_POINTER)),
               reinterpret_cast<uintptr_t>(&call->tensors.back()), data.flags);
}

// ---- any value

// The kind of a numpy scalar ("b", "i", "u", "f", "c", ...), or "": without this a bool would count as a float.
std::string numpy_kind(py::handle object) {
  const py::object kind = py::getattr(py::getattr(object, "dtype", py::none()), "kind", py::none());
  return PyUnicode_Check(kind.ptr()) ? std::string(py::str(kind)) : "";
}

bool has_float(PyObject *raw) {
  const PyNumberMethods *methods = Py_TYPE(raw)->tp_as_number;
  return methods != nullptr && methods->nb_float != nullptr;
}

kpk_arg convert(py::handle object, const void *stream, Arguments *call) {
  PyObject *raw = object.ptr();
  if (PyBool_Check(raw)) return value(KPK_I1, raw == Py_True);
  if (PyLong_Check(raw)) return from_integer(object);
  if (PyFloat_Check(raw)) return from_float(PyFloat_AS_DOUBLE(raw));
  if (raw == Py_None) return value(KPK_NONE, 0);
  if (PyUnicode_Check(raw)) return from_text(object);
  if (const py::object data_ptr = py::getattr(object, "data_ptr", py::none()); !data_ptr.is_none()) {
    return from_data_ptr(object, data_ptr, *call);
  }
  if (py::hasattr(object, "base") && py::hasattr(object, "padding"))
    return from_descriptor(object, stream, call);
  if (py::hasattr(object, "__cuda_array_interface__")) {
    return from_cuda_array(object.attr("__cuda_array_interface__"));
  }
  if (py::hasattr(object, "__dlpack__")) return from_dlpack(object, stream, call);
  // After DLPack, since numpy's arrays say that they are numbers, too.
  const std::string kind = numpy_kind(object);
  if (kind == "b") return value(KPK_I1, PyObject_IsTrue(raw) == 1);
  if (PyIndex_Check(raw)) return from_integer(py::object(object.attr("__index__")()));
  if (has_float(raw) && kind != "c") return from_float(py::float_(object.cast<py::object>()));
  if (const std::optional<uint8_t> type = dtype_code(object)) return value(KPK_DTYPE, *type);
  if (py::hasattr(object, "__kpack_pointer__")) return from_pointer(object.attr("__kpack_pointer__"));
  throw Error("expected a tensor, a number, a string, a dtype or None, got " + type_of(object));
}

void *stream_handle(py::handle stream) {
  if (stream.is_none()) return nullptr;
  py::object handle = py::reinterpret_borrow<py::object>(stream);
  if (py::hasattr(stream, "cuda_stream")) {
    handle = stream.attr("cuda_stream");  // torch, on AMD too
  } else if (py::hasattr(stream, "__cuda_stream__")) {
    handle = stream.attr("__cuda_stream__");  // (version, handle); a method since version 0
    if (PyCallable_Check(handle.ptr())) handle = handle();
    const bool is_pair = PyTuple_Check(handle.ptr()) && PyTuple_GET_SIZE(handle.ptr()) == 2;
    handle = is_pair ? py::object(handle[py::int_(1)]) : py::none();
  }
  if (!PyIndex_Check(handle.ptr())) {
    throw Error("stream: expected an integer, an object with cuda_stream or __cuda_stream__, or None, got " +
                type_of(stream));
  }
  const py::int_ number(py::object(handle.attr("__index__")()));
  const unsigned long long address = PyLong_AsUnsignedLongLong(number.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw Error("stream: expected the address of a stream, got " +
                std::string(py::str(static_cast<py::handle>(number))));
  }
  return reinterpret_cast<void *>(static_cast<uintptr_t>(address));
}

// ---- kernels and packs

struct Kernel {
  const kpk_kernel *kernel;
};

std::string prototype(const Kernel &self) {
  std::string text(kpk_kernel_prototype(self.kernel, nullptr, 0) + 1, '\0');
  text.resize(kpk_kernel_prototype(self.kernel, text.data(), text.size()));
  return text;
}

kpk_arg convert_or_refuse(py::handle object, const void *stream, Arguments *call) {
  try {
    return convert(object, stream, call);
  } catch (const py::error_already_set &raised) {
    throw Error("expected a tensor that says where it is, " + std::string(fault_of(raised).what()));
  } catch (const py::builtin_exception &wrong) {  // a value of theirs that is none of the type it has to be
    throw Error(std::string("expected a tensor that says where it is, got ") + wrong.what());
  }
}

void *stream_or_refuse(py::handle stream) {
  try {
    return stream_handle(stream);
  } catch (const py::error_already_set &raised) {
    throw Error("stream: expected one that says its address, " + std::string(fault_of(raised).what()));
  }
}

// Fills `call` with `args`, to be used on `stream`.
void convert_all(const Kernel &self, const py::tuple &args, const void *stream, Arguments *call) {
  call->values.reserve(args.size());
  for (size_t i = 0; i < args.size(); ++i) {
    try {
      call->values.push_back(convert_or_refuse(args[i], stream, call));
    } catch (const Error &error) {
      throw Error(std::string(kpk_kernel_name(self.kernel)) + ": argument " + std::to_string(i + 1) + ": " +
                  error.what());
    }
  }
}

int launch(const Kernel &self, const py::tuple &args, py::handle stream) {
  const kpk_stream on = {stream_or_refuse(stream), KPK_VENDOR_ANY, 0};
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
  const kpk_stream on = {stream_or_refuse(stream), KPK_VENDOR_ANY, 0};
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
