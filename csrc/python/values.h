// From Python's values to those of the C API.
#pragma once

#include <kpack/kpack.h>
#include <pybind11/pybind11.h>

#include <list>
#include <stdexcept>
#include <vector>

namespace kpk::python {

// What has no kpk_status: a value that is none of the kinds a call takes, a file that does not open.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The arguments of one call, and what has to live until it has been made.
struct Arguments {
  std::vector<kpk_arg> values;
  std::vector<pybind11::object> alive;
  std::list<kpk_tensor> tensors;  // which does not move them
  bool host_memory_too = false;   // nothing will reach it
};

// One argument of a call on `stream`; `call` keeps what it points to. Throws Error.
kpk_arg argument(pybind11::handle object, const void *stream, Arguments *call);

// The address of a stream: of a number, torch's, `__cuda_stream__`, or None for the default one. Throws Error.
void *stream_address(pybind11::handle stream);

}  // namespace kpk::python
