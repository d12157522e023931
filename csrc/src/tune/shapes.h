// Record mode: each new call is written down, so that it can be tuned later, elsewhere. A CSV file: a line
// "# kpack shapes 1", the header "kernel,call", then a row a call:
//
//   softmax,"out_ptr=*fp16:256 in_ptr=*fp16:256 in_row_stride=1024 n_cols=1000 scale=0.5 CAUSAL=true n_rows=8192"
//
// Arguments in call order, by what the caller passed: pointers by element type and alignment (at most 256, or null),
// integers by value, bools, floats (which make no call new), texts in single quotes, types, none, and descriptors as
// tensordesc<fp16>[64,128][128,1]:256 with shape, strides, alignment, and +nan or +tf32. docs/tuning.md has the grammar.
// Appended to under a lock of the file by any number of processes; what is there is not written again.
#pragma once

#include "call.h"
#include "message.h"

namespace kpk {

// From now on calls are recorded in the file at `path` (null: kpack_shapes.csv), or not. When nobody launches.
void set_recording(bool on, const char *path);

// `kernel`: its name; of an op "op:<name>", whose calls are those of its first kernel.
void record_call(const KernelView &view, const char *kernel, const Call &call);

// One argument of a row.
void add_shape(const kpk_arg &arg, Text *out);

}  // namespace kpk
