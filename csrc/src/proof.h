// The proof at load: is an image what the archive says of it, and does the device have what it asks for? Pure.
#pragma once

#include <kpack/abi.h>
#include <kpack/kpack.h>

#include "device.h"
#include "note.h"

namespace kpk {

// What somebody who knows says of a loaded function. A number that is 0 is not said.
struct Word {
  const char *whose;  // "the driver", "the image"
  // Parameter `index` in the order of the kernel; false past the end. Null: the layout is not said.
  bool (*param)(void *from, uint32_t index, Param *out);
  void *from;
  uint32_t param_bytes;
  uint32_t max_threads;    // of a block
  uint32_t exact_threads;  // of a block that may have no fewer either
  uint32_t static_shared_bytes;
  uint32_t registers;  // of a thread
  uint32_t warp_size;
};

// What an image's own note says; `note` must live as long as the word. KPK_ERROR_FORMAT if it cannot be read. PTX
// has none: then nothing is said.
kpk_status word_of_image(const kpk_abi_image &image, uint8_t kind, Note *note, Word *out);

// KPK_ERROR_FORMAT where the archive says otherwise than the word, KPK_ERROR_LIMIT where the function or the
// device does not take what would be launched. The message has both sides.
kpk_status prove(const kpk_abi_image &image, const Device &device, const Word &word);

}  // namespace kpk
