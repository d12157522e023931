// AMD code objects: an ELF whose note of owner "AMDGPU" and type 32 is a MessagePack map with a list of
// kernels. Only what a launch is checked against is kept.
#include <elf.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "image_note.h"

namespace fakes {
namespace {

constexpr uint16_t kMachineAmdgpu = 224;
constexpr uint8_t kOsAbiHsa = 64;
constexpr uint32_t kMetadataNote = 32;

// A MessagePack value of the kinds that the note has.
struct Value {
  enum class Type { kOther, kInteger, kText, kList, kMap };
  Type type = Type::kOther;
  uint64_t integer = 0;
  std::string text;
  std::vector<Value> items;  // a map: key, value, key, value

  const Value *find(const char *key) const {
    if (type != Type::kMap) return nullptr;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      if (items[i].text == key) return &items[i + 1];
    }
    return nullptr;
  }
  uint32_t number(const char *key) const {
    const Value *value = find(key);
    return value != nullptr ? static_cast<uint32_t>(value->integer) : 0;
  }
};

class MsgpackReader {
 public:
  MsgpackReader(const unsigned char *data, uint64_t bytes) : at_(data), end_(data + bytes) {}

  bool read(Value *out, int depth = 0) {
    if (depth > 16 || at_ == end_) return false;
    const uint8_t lead = *at_++;
    if (lead <= 0x7f) return integer(out, lead);
    if (lead <= 0x8f) return list(out, Value::Type::kMap, uint64_t{2} * (lead & 0x0fU), depth);
    if (lead <= 0x9f) return list(out, Value::Type::kList, lead & 0x0fU, depth);
    if (lead <= 0xbf) return text(out, lead & 0x1fU);
    uint64_t n = 0;
    switch (lead) {
      case 0xc0:  // nil
      case 0xc2:  // false
        return integer(out, 0);
      case 0xc3: return integer(out, 1);
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf: return big_endian(1U << (lead - 0xcc), &n) && integer(out, n);
      case 0xd0:
      case 0xd1:
      case 0xd2:
      case 0xd3: return big_endian(1U << (lead - 0xd0), &n) && integer(out, n);
      case 0xca: return big_endian(4, &n) && integer(out, n);
      case 0xcb: return big_endian(8, &n) && integer(out, n);
      case 0xd9:
      case 0xda:
      case 0xdb: return big_endian(1U << (lead - 0xd9), &n) && text(out, n);
      case 0xdc:
      case 0xdd: return big_endian(lead == 0xdc ? 2 : 4, &n) && list(out, Value::Type::kList, n, depth);
      case 0xde:
      case 0xdf: return big_endian(lead == 0xde ? 2 : 4, &n) && list(out, Value::Type::kMap, 2 * n, depth);
      default: return lead >= 0xe0 ? integer(out, lead) : false;
    }
  }

 private:
  uint64_t left() const { return static_cast<uint64_t>(end_ - at_); }

  bool big_endian(uint32_t bytes, uint64_t *out) {
    if (left() < bytes) return false;
    for (uint32_t i = 0; i < bytes; ++i) *out = *out << 8 | *at_++;
    return true;
  }
  static bool integer(Value *out, uint64_t value) {
    out->type = Value::Type::kInteger;
    out->integer = value;
    return true;
  }
  bool text(Value *out, uint64_t bytes) {
    if (left() < bytes) return false;
    out->type = Value::Type::kText;
    out->text.assign(reinterpret_cast<const char *>(at_), static_cast<size_t>(bytes));
    at_ += bytes;
    return true;
  }
  bool list(Value *out, Value::Type type, uint64_t count, int depth) {
    if (count > left()) return false;  // each item is a byte at least
    out->type = type;
    out->items.resize(static_cast<size_t>(count));
    for (Value &item : out->items) {
      if (!read(&item, depth + 1)) return false;
    }
    return true;
  }

  const unsigned char *at_;
  const unsigned char *end_;
};

// The description of the note that holds the metadata.
bool find_metadata(const Elf &elf, const unsigned char **data, uint64_t *bytes) {
  for (const Elf::Section &section : elf.sections) {
    if (section.type != SHT_NOTE || section.data == nullptr) continue;
    uint64_t at = 0;
    while (at + 12 <= section.size) {
      const uint64_t name_bytes = load<uint32_t>(section.data + at);
      const uint64_t desc_bytes = load<uint32_t>(section.data + at + 4);
      const auto type = load<uint32_t>(section.data + at + 8);
      const uint64_t desc = at + 12 + (name_bytes + 3) / 4 * 4;
      if (desc + desc_bytes > section.size) return false;
      if (type == kMetadataNote && name_bytes == 7 && std::memcmp(section.data + at + 12, "AMDGPU", 7) == 0) {
        *data = section.data + desc;
        *bytes = desc_bytes;
        return true;
      }
      at = desc + (desc_bytes + 3) / 4 * 4;
    }
  }
  return false;
}

bool read_kernel(const Value &note, Kernel *kernel) {
  const Value *name = note.find(".name");
  if (name == nullptr || name->text.empty()) return false;
  kernel->name = name->text;
  kernel->param_bytes = note.number(".kernarg_segment_size");
  kernel->static_shared_bytes = note.number(".group_segment_fixed_size");
  kernel->local_bytes = note.number(".private_segment_fixed_size");
  kernel->registers = note.number(".vgpr_count");
  kernel->max_threads = note.number(".max_flat_workgroup_size");
  kernel->wavefront = note.number(".wavefront_size");
  const Value *args = note.find(".args");
  if (args == nullptr) return true;
  for (const Value &arg : args->items) {
    const Value *kind = arg.find(".value_kind");
    if (kind != nullptr && kind->text.compare(0, 7, "hidden_") == 0) continue;
    const fake_param param = {arg.number(".offset"), arg.number(".size")};
    if (param.size == 0 || uint64_t{param.offset} + param.size > kernel->param_bytes) return false;
    kernel->params.push_back(param);
    kernel->least_param_bytes = std::max(kernel->least_param_bytes, param.offset + param.size);
  }
  return true;
}

}  // namespace

Parsed parse_hip(const void *data, Image *out) {
  *out = Image();
  Elf elf;
  if (!elf.open(data) || elf.machine != kMachineAmdgpu || elf.os_abi != kOsAbiHsa)
    return Parsed::kInvalidImage;
  out->kind = Kind::kHsaco;
  out->data = static_cast<const unsigned char *>(data);
  out->size = elf.size;
  out->elf_flags = elf.flags;
  const unsigned char *metadata = nullptr;
  uint64_t bytes = 0;
  Value root;
  if (!find_metadata(elf, &metadata, &bytes)) return Parsed::kInvalidImage;
  if (!MsgpackReader(metadata, bytes).read(&root)) return Parsed::kInvalidImage;
  const Value *kernels = root.find("amdhsa.kernels");
  if (kernels == nullptr) return Parsed::kInvalidImage;
  for (const Value &note : kernels->items) {
    Kernel kernel;
    if (!read_kernel(note, &kernel)) return Parsed::kInvalidImage;
    out->kernels.push_back(kernel);
  }
  out->checksum = fake::checksum(data, out->size);
  return Parsed::kOk;
}

}  // namespace fakes
