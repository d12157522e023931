// What an image says of one of its kernels, where the driver does not say it: a cubin in .nv.info, an AMD code
// object in its NT_AMDGPU_METADATA note. Pure: believes no byte of the image, allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kpk {

// Some bytes of an image.
struct ByteSpan {
  const unsigned char *data;
  size_t size;
};

// Where a parameter lies in the parameter block, bytes.
struct Param {
  uint32_t offset;
  uint32_t size;
};

struct Note {
  uint32_t param_count;
  uint32_t param_bytes;          // of the whole block
  uint32_t max_threads;          // of a block; 0: not said
  uint32_t exact_threads;        // of a block that may have no fewer either; 0: not said
  uint32_t static_shared_bytes;  // AMD; 0: not said
  uint32_t warp_size;            // AMD; 0: not said
  bool is_cubin;
  ByteSpan params;  // the records that param_at() reads
  // Where to read on, so that reading parameters in order reads each once. Of a cubin: the first record of them.
  ByteSpan next;
  uint32_t next_argument;  // of a code object; hidden ones count
  uint32_t next_index;
};

// Reads what `image` says of kernel `entry`; false if it is no such image, or is damaged.
bool read_cubin_note(ByteSpan image, const char *entry, Note *out);
bool read_hsaco_note(ByteSpan image, const char *entry, Note *out);

// Parameter `index`, in the order of the kernel; false past the end.
bool param_at(Note *note, uint32_t index, Param *out);

}  // namespace kpk
