// Cubins and PTX. A cubin says its parameters in .nv.info.<kernel>: records of {format, attribute, u16},
// followed by a payload of u16 bytes when the format is 4. The attributes' names are those that cuobjdump
// and nvdisasm print.
#include <elf.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>

#include "image_note.h"

namespace fakes {
namespace {

constexpr uint16_t kMachineCuda = 190;
constexpr uint8_t kOsAbiCuda = 0x33;     // up to ptxas 12: e_flags bits 0..7 are the SM, 0x800 is sm_90a
constexpr uint8_t kOsAbiCudaNew = 0x41;  // since: bits 8..15 are the SM, 0x8 is sm_100a
// From sm_90 on .nv.shared counts what the system reserves of every block; attribute 97 leaves it out.
constexpr uint32_t kReservedShared = 1024;

enum : uint8_t {
  kMaxThreads = 0x05,
  kReqntid = 0x10,
  kFrameSize = 0x11,
  kKparamInfo = 0x17,
  kCbankParamSize = 0x19,
  kRegcount = 0x2f,
};

// Calls visit(attribute, value, payload, payload bytes) for each record; false if one is cut off.
template <class Visit>
bool each_attribute(const Elf::Section &section, const Visit &visit) {
  uint64_t at = 0;
  while (at + 4 <= section.size) {
    const uint8_t format = section.data[at];
    const uint8_t attribute = section.data[at + 1];
    const auto value = load<uint16_t>(section.data + at + 2);
    at += 4;
    const uint64_t bytes = format == 4 ? value : 0;
    if (bytes > section.size - at) return false;
    visit(attribute, value, section.data + at, bytes);
    at += bytes;
  }
  return at == section.size;
}

void read_triple(const unsigned char *payload, uint32_t (&out)[3]) {
  for (unsigned i = 0; i < 3; ++i) out[i] = load<uint32_t>(payload + 4 * i);
}

bool read_kernel(const Elf &elf, const Elf::Section &info, int arch, Kernel *kernel) {
  const bool whole = each_attribute(
      info, [&](uint8_t attribute, uint16_t value, const unsigned char *payload, uint64_t bytes) {
        if (attribute == kKparamInfo && bytes >= 12) {
          kernel->params.push_back({load<uint16_t>(payload + 6), load<uint32_t>(payload + 8) >> 18});
        } else if (attribute == kCbankParamSize) {
          kernel->param_bytes = value;
        } else if (attribute == kReqntid && bytes >= 12) {
          read_triple(payload, kernel->required_block);
        } else if (attribute == kMaxThreads && bytes >= 12) {
          uint32_t block[3];
          read_triple(payload, block);
          kernel->max_threads = block[0] * block[1] * block[2];
        }
      });
  if (!whole) return false;
  std::sort(kernel->params.begin(), kernel->params.end(),
            [](const fake_param &a, const fake_param &b) { return a.offset < b.offset; });
  for (const fake_param &param : kernel->params) {
    if (param.size == 0 || param.offset + param.size > kernel->param_bytes) return false;
    kernel->least_param_bytes = param.offset + param.size;
  }
  const Elf::Section *shared = elf.find(".nv.shared." + kernel->name);
  if (shared != nullptr) {
    const auto bytes = static_cast<uint32_t>(shared->size);
    kernel->static_shared_bytes = arch >= 90 && bytes >= kReservedShared ? bytes - kReservedShared : bytes;
  }
  return true;
}

bool parse_cubin(const Elf &elf, Image *out) {
  if (elf.machine != kMachineCuda) return false;
  if (elf.os_abi != kOsAbiCuda && elf.os_abi != kOsAbiCudaNew) return false;
  const bool old = elf.os_abi == kOsAbiCuda;
  out->kind = Kind::kCubin;
  out->arch = static_cast<int>((old ? elf.flags : elf.flags >> 8) & 0xff);
  out->exact = (elf.flags & (old ? 0x800U : 0x8U)) != 0;
  const std::vector<Elf::Symbol> symbols = elf.symbols(".symtab");
  std::vector<size_t> kernel_of(symbols.size(), SIZE_MAX);
  for (size_t i = 0; i < symbols.size(); ++i) {
    const Elf::Symbol &symbol = symbols[i];
    const Elf::Section *info = elf.find(".nv.info." + symbol.name);
    if (symbol.type != STT_FUNC || info == nullptr || info->data == nullptr) continue;
    Kernel kernel;
    kernel.name = symbol.name;
    if (!read_kernel(elf, *info, out->arch, &kernel)) return false;
    kernel_of[i] = out->kernels.size();
    out->kernels.push_back(kernel);
  }
  const Elf::Section *common = elf.find(".nv.info");
  if (common == nullptr || common->data == nullptr) return true;
  return each_attribute(*common,
                        [&](uint8_t attribute, uint16_t, const unsigned char *payload, uint64_t bytes) {
                          const size_t symbol = bytes >= 8 ? load<uint32_t>(payload) : SIZE_MAX;
                          if (symbol >= symbols.size() || kernel_of[symbol] == SIZE_MAX) return;
                          Kernel &kernel = out->kernels[kernel_of[symbol]];
                          const auto value = load<uint32_t>(payload + 4);
                          if (attribute == kRegcount) kernel.registers = value;
                          if (attribute == kFrameSize) kernel.local_bytes = value;
                        });
}

// ---- PTX ----------------------------------------------------------------------------------------------

// The words and the punctuation of a PTX text, comments left out.
std::vector<std::string> ptx_tokens(const std::string &text) {
  std::vector<std::string> out;
  const auto is_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '$' || c == '%';
  };
  for (size_t i = 0; i < text.size();) {
    if (text.compare(i, 2, "//") == 0) {
      i = std::min(text.find('\n', i), text.size());
    } else if (text.compare(i, 2, "/*") == 0) {
      const size_t end = text.find("*/", i + 2);
      i = end == std::string::npos ? text.size() : end + 2;
    } else if (is_word(text[i])) {
      const size_t begin = i;
      while (i < text.size() && is_word(text[i])) ++i;
      out.push_back(text.substr(begin, i - begin));
    } else {
      if (std::isspace(static_cast<unsigned char>(text[i])) == 0) out.emplace_back(1, text[i]);
      ++i;
    }
  }
  return out;
}

// ".u64" -> 8; 0 for what is no type.
uint32_t ptx_type_bytes(const std::string &type) {
  if (type.size() < 3 || std::strchr("usbf", type[1]) == nullptr) return 0;
  const long bits = std::strtol(type.c_str() + 2, nullptr, 10);
  return bits == 8 || bits == 16 || bits == 32 || bits == 64 ? static_cast<uint32_t>(bits / 8) : 0;
}

class PtxReader {
 public:
  explicit PtxReader(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {}

  bool read(Image *out) {
    while (!done()) {
      const std::string word = next();
      if (word == ".version") {
        const std::string version = next();
        const size_t dot = version.find('.');
        if (dot == std::string::npos) return false;
        out->ptx_version = std::atoi(version.c_str()) * 10 + std::atoi(version.c_str() + dot + 1);
      } else if (word == ".target") {
        const std::string target = next();
        if (target.compare(0, 3, "sm_") != 0) return false;
        out->arch = std::atoi(target.c_str() + 3);
        out->exact = target.back() == 'a';
      } else if (word == ".entry") {
        Kernel kernel;
        if (!entry(&kernel)) return false;
        out->kernels.push_back(kernel);
      } else if (word == ".extern") {
        next();  // dynamic shared memory
      } else if (word == ".shared" && !out->kernels.empty()) {
        if (!shared(&out->kernels.back())) return false;
      }
    }
    return out->ptx_version != 0 && out->arch != 0;
  }

 private:
  bool done() const { return at_ >= tokens_.size(); }
  std::string next() { return done() ? std::string() : tokens_[at_++]; }

  // name ( .param .u64 .ptr .global .align 1 a, .param .align 64 .b8 d[128] ) .reqntid 128, 1, 1 {
  bool entry(Kernel *kernel) {
    kernel->name = next();
    std::string word = next();
    if (word == "(") {
      for (word = next(); word == ".param"; word = next() == "," ? next() : std::string(")")) {
        if (!param(kernel)) return false;
      }
      if (word != ")") return false;
      word = next();
    }
    for (; word != "{" && !word.empty(); word = next()) {
      if (word == ".reqntid") triple(kernel->required_block);
      if (word == ".maxntid") {
        uint32_t block[3];
        triple(block);
        kernel->max_threads = block[0] * block[1] * block[2];
      }
    }
    return word == "{";
  }

  // After `.param`; leaves the `,` or `)` that follows.
  bool param(Kernel *kernel) {
    uint32_t size = 0;
    uint32_t align = 0;
    bool pointee = false;  // an .align after .ptr is of what it points to
    while (!done() && tokens_[at_] != "," && tokens_[at_] != ")") {
      const std::string word = next();
      if (word == ".ptr")
        pointee = true;
      else if (word == ".align") {
        const auto bytes = static_cast<uint32_t>(std::atoi(next().c_str()));
        if (!pointee) align = bytes;
      } else if (word == "[") {
        size *= static_cast<uint32_t>(std::atoi(next().c_str()));
        next();
      } else if (size == 0) {
        size = ptx_type_bytes(word);
      }
    }
    if (size == 0) return false;
    if (align == 0) align = size;
    const uint32_t offset = (kernel->param_bytes + align - 1) / align * align;
    kernel->params.push_back({offset, size});
    kernel->param_bytes = offset + size;
    kernel->least_param_bytes = kernel->param_bytes;
    return true;
  }

  // After `.shared`: .align 16 .b8 s[1000];
  bool shared(Kernel *kernel) {
    uint32_t size = 0;
    for (std::string word = next(); word != ";"; word = next()) {
      if (word.empty()) return false;
      if (word == "[") size *= static_cast<uint32_t>(std::atoi(next().c_str()));
      if (size == 0) size = ptx_type_bytes(word);
    }
    kernel->static_shared_bytes += size;
    return true;
  }

  void triple(uint32_t (&out)[3]) {
    for (uint32_t &value : out) value = 1;
    for (uint32_t &value : out) {
      value = static_cast<uint32_t>(std::atoi(next().c_str()));
      if (done() || tokens_[at_] != ",") return;
      ++at_;
    }
  }

  std::vector<std::string> tokens_;
  size_t at_ = 0;
};

}  // namespace

Parsed parse_cuda(const void *data, Image *out) {
  *out = Image();
  if (!mapped(data, 4)) return Parsed::kInvalidImage;
  out->data = static_cast<const unsigned char *>(data);
  Elf elf;
  if (elf.open(data)) {
    if (!parse_cubin(elf, out)) return Parsed::kInvalidImage;
    out->size = elf.size;
    out->elf_flags = elf.flags;
    out->checksum = fake::checksum(data, out->size);
    return Parsed::kOk;
  }
  // What starts neither as ELF nor as text is garbage; text without .version first is no PTX.
  const unsigned char first = *out->data;
  if (std::isprint(first) == 0 && std::isspace(first) == 0) return Parsed::kInvalidImage;
  const std::string text = static_cast<const char *>(data);
  std::vector<std::string> tokens = ptx_tokens(text);
  if (tokens.empty() || tokens[0] != ".version") return Parsed::kInvalidImage;
  out->kind = Kind::kPtx;
  out->size = text.size() + 1;
  out->checksum = fake::checksum(data, out->size);
  return PtxReader(std::move(tokens)).read(out) ? Parsed::kOk : Parsed::kInvalidPtx;
}

}  // namespace fakes
