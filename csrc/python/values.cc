#include "values.h"

#include <cstring>
#include <optional>
#include <string>

namespace py = pybind11;

namespace kpk::python {
namespace {

// What code of the caller's has raised, "KeyError: 'typestr'": as a value's fault. Ctrl-C and exit go on.
Error fault_of(const py::error_already_set &raised) {
  if (!raised.matches(PyExc_Exception)) throw raised;
  return Error("got " + std::string(py::str(raised.type().attr("__name__"))) + ": " +
               std::string(py::str(raised.value())));
}

// The attribute, or None. `name` is interned: to make it a string at each look-up costs more than to look it up.
py::object attribute_of(py::handle object, PyObject *name) {
  PyObject *found = PyObject_GetAttr(object.ptr(), name);
  if (found == nullptr) PyErr_Clear();
  return found == nullptr ? py::none() : py::reinterpret_steal<py::object>(found);
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
  static PyObject *const kIsCuda = PyUnicode_InternFromString("is_cuda");
  const py::object is_cuda = attribute_of(object, kIsCuda);
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
  static PyObject *const kDtype = PyUnicode_InternFromString("dtype");
  const py::object dtype = attribute_of(object, kDtype);
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
  static PyObject *const kDataPtr = PyUnicode_InternFromString("data_ptr");
  if (const py::object data_ptr = attribute_of(object, kDataPtr); !data_ptr.is_none()) {
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

}  // namespace

kpk_arg argument(py::handle object, const void *stream, Arguments *call) {
  try {
    return convert(object, stream, call);
  } catch (const py::error_already_set &raised) {
    throw Error("expected a tensor that says where it is, " + std::string(fault_of(raised).what()));
  } catch (const py::builtin_exception &wrong) {  // a value of theirs that is none of the type it has to be
    throw Error(std::string("expected a tensor that says where it is, got ") + wrong.what());
  }
}

void *stream_address(py::handle stream) {
  try {
    return stream_handle(stream);
  } catch (const py::error_already_set &raised) {
    throw Error("stream: expected one that says its address, " + std::string(fault_of(raised).what()));
  }
}

}  // namespace kpk::python
