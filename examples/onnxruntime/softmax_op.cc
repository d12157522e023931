// Operator kpack::Softmax for ONNX Runtime: softmax over the last dimension, of float, float16 or bfloat16. The
// operator runs in a session on the CPU, and its kernel on the GPU: tensors are copied there and back.
//
// The C API alone, of 1.16 or later, where an operator can return an error.

#include <onnxruntime_c_api.h>

#include <kpack/kpack.hpp>
#include <vector>

#include "../quickstart/gpu.h"

static_assert(ORT_API_VERSION >= 16, "softmax_op.cc: expected the headers of ONNX Runtime 1.16 or later");

namespace {

const OrtApi *ort;

OrtStatus *failure(const char *message) { return ort->CreateStatus(ORT_FAIL, message); }

// ---- The device's memory

struct Memory {
  explicit Memory(const gpu &of) : device(of) {}
  Memory(const Memory &) = delete;
  Memory &operator=(const Memory &) = delete;
  ~Memory() {
    if (address != nullptr) gpu_release(&device, address);
  }
  const gpu &device;
  void *address = nullptr;
};

// ---- One node of a model

struct Softmax {
  const kpk_kernel *kernel = nullptr;
  bool has_device = false;
  gpu device = {};
};

struct Tensor {
  void *data = nullptr;
  kpack::DType type = kpack::DType::fp32;
  size_t bytes = 0;
  int64_t rows = 1, columns = 1;
  std::vector<int64_t> shape;
};

OrtStatus *read_shape(const OrtTensorTypeAndShapeInfo *info, Tensor *out) {
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  if (OrtStatus *failed = ort->GetTensorElementType(info, &type)) return failed;
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: out->type = kpack::DType::fp32; break;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: out->type = kpack::DType::fp16; break;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16: out->type = kpack::DType::bf16; break;
    default: return failure("kpack::Softmax: expected a tensor of float, float16 or bfloat16");
  }
  size_t rank = 0;
  if (OrtStatus *failed = ort->GetDimensionsCount(info, &rank)) return failed;
  if (rank == 0) return failure("kpack::Softmax: expected a tensor of 1 dimension or more, got a scalar");
  out->shape.resize(rank);
  if (OrtStatus *failed = ort->GetDimensions(info, out->shape.data(), rank)) return failed;
  out->columns = out->shape.back();
  for (size_t i = 0; i + 1 < rank; ++i) out->rows *= out->shape[i];
  const size_t element_bytes = out->type == kpack::DType::fp32 ? 4 : 2;
  out->bytes = static_cast<size_t>(out->rows * out->columns) * element_bytes;
  return nullptr;
}

OrtStatus *read_input(OrtKernelContext *context, Tensor *out) {
  const OrtValue *value = nullptr;
  if (OrtStatus *failed = ort->KernelContext_GetInput(context, 0, &value)) return failed;
  // What may be written to: the C API has no other way to the data. It is only read.
  if (OrtStatus *failed = ort->GetTensorMutableData(const_cast<OrtValue *>(value), &out->data)) return failed;
  OrtTensorTypeAndShapeInfo *info = nullptr;
  if (OrtStatus *failed = ort->GetTensorTypeAndShape(value, &info)) return failed;
  OrtStatus *failed = read_shape(info, out);
  ort->ReleaseTensorTypeAndShapeInfo(info);
  return failed;
}

kpack::Status launch(const Softmax &op, void *out, const void *in, const Tensor &shape) {
  const int64_t stride = shape.columns;
  return kpack::Kernel(*op.kernel)(nullptr, kpack::ptr(out, shape.type), kpack::ptr(in, shape.type), stride,
                                   stride, shape.columns, shape.rows);
}

OrtStatus *compute_on_device(const Softmax &op, void *out, const Tensor &in) {
  Memory x(op.device), y(op.device);
  if (gpu_enter(&op.device) != 0 || gpu_allocate(&op.device, &x.address, in.bytes) != 0 ||
      gpu_allocate(&op.device, &y.address, in.bytes) != 0 ||
      gpu_to_device(&op.device, x.address, in.data, in.bytes) != 0) {
    return failure("kpack::Softmax: the device has no memory for the tensor, or could not be written to");
  }
  if (const kpack::Status status = launch(op, y.address, x.address, in); !status)
    return failure(status.message());
  if (gpu_to_host(&op.device, out, y.address, in.bytes) != 0) {
    return failure("kpack::Softmax: the result could not be copied from the device");
  }
  return nullptr;
}

OrtStatus *compute(void *op, OrtKernelContext *context) {
  const Softmax &softmax = *static_cast<const Softmax *>(op);
  Tensor in;
  if (OrtStatus *failed = read_input(context, &in)) return failed;
  OrtValue *value = nullptr;
  if (OrtStatus *failed =
          ort->KernelContext_GetOutput(context, 0, in.shape.data(), in.shape.size(), &value)) {
    return failed;
  }
  void *out = nullptr;
  if (OrtStatus *failed = ort->GetTensorMutableData(value, &out)) return failed;
  if (in.bytes == 0) return nullptr;
  if (softmax.has_device) return compute_on_device(softmax, out, in);
  // The launch itself says that there is no device, or, as the dry driver, what would have been launched.
  return failure(launch(softmax, out, in.data, in).message());
}

OrtStatus *create(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *, void **out) {
  auto *op = new Softmax;
  // By name, as --whole-archive brings every kernel in; KPACK_KERNEL(tk, softmax) would be a linker symbol.
  op->kernel = kpack::find("tk", "softmax");
  op->has_device = kpk_is_dry() == 0 && kpk_device_count(KPK_VENDOR_ANY) != 0;
  const bool is_hip = kpk_device_count(KPK_VENDOR_CUDA) == 0;
  if (op->kernel != nullptr && (!op->has_device || gpu_open(&op->device, is_hip) == 0)) {
    *out = op;
    return nullptr;
  }
  const bool found = op->kernel != nullptr;
  delete op;
  return failure(found ? "kpack::Softmax: the device could not be opened"
                       : "kpack::Softmax: no kernel 'softmax' in pack 'tk'");
}

// ---- The operator, as ONNX Runtime sees it

OrtCustomOp describe() {
  OrtCustomOp op = {};
  op.version = ORT_API_VERSION;
  op.GetName = [](const OrtCustomOp *) { return "Softmax"; };
  op.GetExecutionProviderType = [](const OrtCustomOp *) -> const char * { return nullptr; };  // the CPU's
  op.GetInputTypeCount = [](const OrtCustomOp *) -> size_t { return 1; };
  op.GetOutputTypeCount = [](const OrtCustomOp *) -> size_t { return 1; };
  // Any type, and the output's is the input's: compute() says which it takes.
  op.GetInputType = [](const OrtCustomOp *, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED; };
  op.GetOutputType = [](const OrtCustomOp *, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED; };
  op.GetInputCharacteristic = [](const OrtCustomOp *, size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetOutputCharacteristic = [](const OrtCustomOp *, size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetInputMemoryType = [](const OrtCustomOp *, size_t) { return OrtMemTypeDefault; };
  op.CreateKernelV2 = create;
  op.KernelComputeV2 = compute;
  op.KernelDestroy = [](void *kernel) { delete static_cast<Softmax *>(kernel); };
  return op;
}

}  // namespace

// What register_custom_ops_library() calls.
extern "C" __attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(OrtSessionOptions *options,
                                                                               const OrtApiBase *base) {
  ort = base->GetApi(ORT_API_VERSION);
  if (ort == nullptr) {
    ort = base->GetApi(1);
    return failure("kpack::Softmax: built for a newer ONNX Runtime than this one");
  }
  static const OrtCustomOp softmax = describe();
  static OrtCustomOpDomain *domain = nullptr;  // of the process: sessions refer to it as long as they live
  if (domain == nullptr) {
    if (OrtStatus *failed = ort->CreateCustomOpDomain("kpack", &domain)) return failed;
    if (OrtStatus *failed = ort->CustomOpDomain_Add(domain, &softmax)) return failed;
  }
  return ort->AddCustomOpDomain(options, domain);
}
