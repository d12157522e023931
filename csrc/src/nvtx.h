// NVTX ranges, shown by the tool that a process runs under: Nsight Systems, Nsight Compute.
//
// There is no library to link. A tool sets NVTX_INJECTION64_PATH to a library of its own, and every copy of NVTX in
// the process (it is a header; torch has one, a program may have another) opens that library by itself and hands it
// a table of function pointers, which the tool points at its own functions. This is one more such copy, as small as
// it can be: what the others do is none of its business.
#pragma once

namespace kpk {

// Opens the tool's library. False if there is none, or it does not take ranges; `*why` then says what is wrong with
// it, or is null where no tool is attached at all.
bool nvtx_attach(const char **why);

// A range of this thread, named `name`; ranges nest. Only once attached.
void nvtx_push(const char *name);
void nvtx_pop();

}  // namespace kpk
