// torch.ops.kpack_examples.softmax: softmax over the last dimension as an operator of PyTorch, whose kernels are linked
// in. Autograd, torch.compile and CUDA graphs take it as they take PyTorch's own; no Triton is there at run time.
//
// Built against PyTorch's headers alone, with or without CUDA: the stream comes from torch as a plain handle.

#include <ATen/DeviceAccelerator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <kpack/kpack.hpp>

KPACK_KERNEL(ops, softmax);
KPACK_KERNEL(ops, softmax_backward);

namespace {

// ---- Shapes: what every implementation checks

void check_input(const at::Tensor &x, const char *name) {
  TORCH_CHECK(x.dim() >= 1, "kpack_examples::softmax: ", name,
              ": expected 1 dimension or more, got a scalar");
  const at::ScalarType type = x.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kHalf || type == at::kBFloat16,
              "kpack_examples::softmax: ", name, ": expected float, half or bfloat16, got ", type);
}

void check_gradient(const at::Tensor &dy, const at::Tensor &y) {
  check_input(y, "y");
  TORCH_CHECK(dy.sym_sizes() == y.sym_sizes() && dy.scalar_type() == y.scalar_type(),
              "kpack_examples::softmax_backward: dy: expected ", y.scalar_type(), y.sym_sizes(), ", got ",
              dy.scalar_type(), dy.sym_sizes());
}

// ---- On the GPU, NVIDIA's or AMD's: torch calls both CUDA

kpack::DType type_of(const at::Tensor &x) {
  return x.scalar_type() == at::kFloat  ? kpack::DType::fp32
         : x.scalar_type() == at::kHalf ? kpack::DType::fp16
                                        : kpack::DType::bf16;
}
kpack::Pointer in(const at::Tensor &x) { return kpack::ptr(x.const_data_ptr(), type_of(x)); }
kpack::Pointer out(const at::Tensor &x) { return kpack::ptr(x.mutable_data_ptr(), type_of(x)); }

// Torch's current one. Its default stream has no handle, on any device: a guard says which device is meant.
kpack::Stream stream_of(const at::Tensor &x) {
  void *handle = at::accelerator::getCurrentStream(x.device().index()).native_handle();
  return kpk_stream{handle, KPK_VENDOR_ANY, 0};
}

void check_launch(kpack::Status status) {
  TORCH_CHECK(status.ok(), status.message());  // subject, expected, got
}

at::Tensor softmax_cuda(const at::Tensor &given) {
  check_input(given, "x");
  const at::Tensor x = given.contiguous();
  at::Tensor y = at::empty_like(x);
  if (x.numel() == 0) return y;
  const c10::DeviceGuard guard(x.device());
  const int64_t columns = x.size(-1), rows = x.numel() / columns;
  check_launch(ops::softmax(stream_of(x), out(y), in(x), columns, columns, columns, rows));
  return y;
}

at::Tensor softmax_backward_cuda(const at::Tensor &given, const at::Tensor &saved) {
  check_gradient(given, saved);
  const at::Tensor dy = given.contiguous(), y = saved.contiguous();
  at::Tensor dx = at::empty_like(y);
  if (y.numel() == 0) return dx;
  const c10::DeviceGuard guard(y.device());
  const int64_t columns = y.size(-1), rows = y.numel() / columns;
  check_launch(
      ops::softmax_backward(stream_of(y), out(dx), in(y), in(dy), columns, columns, columns, columns, rows));
  return dx;
}

// ---- Without memory, for torch.compile: what the result is like

at::Tensor softmax_meta(const at::Tensor &x) {
  check_input(x, "x");
  return at::empty_like(x, at::MemoryFormat::Contiguous);
}

at::Tensor softmax_backward_meta(const at::Tensor &dy, const at::Tensor &y) {
  check_gradient(dy, y);
  return at::empty_like(y, at::MemoryFormat::Contiguous);
}

// ---- Autograd: both ways through the dispatcher, so that torch.compile sees two operators

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Softmax : torch::autograd::Function<Softmax> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x) {
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("kpack_examples::softmax", "")
                               .typed<at::Tensor(const at::Tensor &)>();
    at::Tensor y = op.call(x);
    context->save_for_backward({y});
    return y;
  }
  static variable_list backward(AutogradContext *context, const variable_list &gradients) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("kpack_examples::softmax_backward", "")
                               .typed<at::Tensor(const at::Tensor &, const at::Tensor &)>();
    return {op.call(gradients[0], context->get_saved_variables()[0])};
  }
};

at::Tensor softmax_autograd(const at::Tensor &x) { return Softmax::apply(x); }

}  // namespace

TORCH_LIBRARY(kpack_examples, library) {
  library.def("softmax(Tensor x) -> Tensor");
  library.def("softmax_backward(Tensor dy, Tensor y) -> Tensor");
}
TORCH_LIBRARY_IMPL(kpack_examples, CUDA, library) {
  library.impl("softmax", softmax_cuda);
  library.impl("softmax_backward", softmax_backward_cuda);
}
TORCH_LIBRARY_IMPL(kpack_examples, Meta, library) {
  library.impl("softmax", softmax_meta);
  library.impl("softmax_backward", softmax_backward_meta);
}
TORCH_LIBRARY_IMPL(kpack_examples, Autograd, library) { library.impl("softmax", softmax_autograd); }
