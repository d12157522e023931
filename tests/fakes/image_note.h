// What a device image says about itself, read by the fakes' own eyes: no code is shared with kpack, so
// that an error in one is not repeated in the other. Cubins (ELF, .nv.info), PTX text, AMD code objects
// (ELF, the NT_AMDGPU_METADATA note).
#ifndef KPACK_TESTS_FAKES_IMAGE_NOTE_H
#define KPACK_TESTS_FAKES_IMAGE_NOTE_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fake.h"

namespace fakes {

enum class Kind { kCubin, kPtx, kHsaco };

struct Kernel {
  std::string name;
  std::vector<fake_param> params;  // by offset; what the caller passes
  uint32_t param_bytes = 0;        // CUDA: of all parameters; AMD: the kernarg segment
  uint32_t least_param_bytes = 0;  // end of the last of `params`
  uint32_t static_shared_bytes = 0;
  uint32_t registers = 0;
  uint32_t local_bytes = 0;
  uint32_t max_threads = 0;         // of a block; 0: not said
  uint32_t required_block[3] = {};  // CUDA .reqntid; 0: not said
  uint32_t wavefront = 0;           // AMD
};

struct Image {
  Kind kind = Kind::kCubin;
  const unsigned char *data = nullptr;  // the caller's, not owned
  size_t size = 0;                      // bytes
  uint64_t checksum = 0;
  uint32_t elf_flags = 0;
  int arch = 0;         // CUDA: 10 * major + minor
  bool exact = false;   // CUDA: sm_90a
  int ptx_version = 0;  // 10 * major + minor
  std::vector<Kernel> kernels;

  const Kernel *find(const std::string &name) const;
};

enum class Parsed { kOk, kInvalidImage, kInvalidPtx };

// Neither is told how many bytes there are, as the drivers are not: the size comes from the image's own
// headers, and memory that is not mapped makes it invalid instead of a crash.
Parsed parse_cuda(const void *data, Image *out);
Parsed parse_hip(const void *data, Image *out);

// Whether all pages of [data, data + bytes) are mapped.
bool mapped(const void *data, size_t bytes);
// Whether `data` lies in a mapping of a file.
bool file_backed(const void *data);

// A bounds-checked look at an ELF64 little-endian file in memory.
class Elf {
 public:
  struct Section {
    std::string name;
    uint32_t type = 0;
    uint32_t link = 0;
    uint32_t info = 0;
    uint64_t size = 0;
    const unsigned char *data = nullptr;  // null for NOBITS
  };
  struct Symbol {
    std::string name;
    uint8_t type = 0;
    uint16_t section = 0;
  };

  bool open(const void *data);
  const Section *find(const std::string &name) const;
  std::vector<Symbol> symbols(const char *table) const;

  uint16_t machine = 0;
  uint32_t flags = 0;
  uint8_t os_abi = 0;
  size_t size = 0;  // bytes, from the section and program headers
  std::vector<Section> sections;
};

template <class T>
T load(const unsigned char *at) {
  T value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace fakes
#endif
