#include "note.h"

#include <cstring>

namespace kpk {
namespace {

constexpr ByteSpan kNothing = {nullptr, 0};

// The part of `bytes` from `at` on, `size` long; false if it is not all in there.
bool slice(ByteSpan bytes, uint64_t at, uint64_t size, ByteSpan *out) {
  if (at > bytes.size || size > bytes.size - at) return false;
  *out = {bytes.data + at, static_cast<size_t>(size)};
  return true;
}

ByteSpan rest(ByteSpan bytes, size_t at) { return {bytes.data + at, bytes.size - at}; }

// A little-endian value, as images and hosts have it.
template <class T>
bool load(ByteSpan bytes, uint64_t at, T *out) {
  ByteSpan found;
  if (!slice(bytes, at, sizeof *out, &found)) return false;
  std::memcpy(out, found.data, sizeof *out);
  return true;
}

bool equal(ByteSpan bytes, const char *text, size_t length) {
  return bytes.size == length && std::memcmp(bytes.data, text, length) == 0;
}

// ---- ELF ----------------------------------------------------------------------------------------------

constexpr uint16_t kMachineCuda = 190, kMachineAmdgpu = 224;
constexpr uint32_t kSectionNote = 7, kSectionNobits = 8;

// The fields of an Elf64_Ehdr and an Elf64_Shdr that are read here, at their offsets.
constexpr uint64_t kMachineAt = 18, kTableAt = 40, kEntryBytesAt = 58, kCountAt = 60, kNamesAt = 62;
constexpr uint64_t kSectionBytes = 64, kTypeAt = 4, kOffsetAt = 24, kSizeAt = 32;

struct Section {
  uint32_t name;  // in the section of names
  uint32_t type;
  ByteSpan content;
};

class Elf {
 public:
  bool open(ByteSpan image, uint16_t machine) {
    constexpr unsigned char magic[] = {0x7f, 'E', 'L', 'F', 2, 1};  // 64 bits, little-endian
    uint16_t found = 0, entry_bytes = 0, names = 0;
    image_ = image;
    if (image.size < sizeof magic || std::memcmp(image.data, magic, sizeof magic) != 0) return false;
    if (!load(image, kMachineAt, &found) || !load(image, kTableAt, &table_) ||
        !load(image, kEntryBytesAt, &entry_bytes) || !load(image, kCountAt, &count_) ||
        !load(image, kNamesAt, &names)) {
      return false;
    }
    Section section;
    if (found != machine || entry_bytes != kSectionBytes || !at(names, &section)) return false;
    names_ = section.content;
    return true;
  }

  uint32_t size() const { return count_; }

  bool at(uint32_t index, Section *out) const {
    ByteSpan header;
    uint64_t offset = 0, size = 0;
    if (index >= count_ || table_ > image_.size) return false;
    if (!slice(image_, table_ + index * kSectionBytes, kSectionBytes, &header)) return false;
    *out = {0, 0, kNothing};
    load(header, 0, &out->name);
    load(header, kTypeAt, &out->type);
    load(header, kOffsetAt, &offset);
    load(header, kSizeAt, &size);
    return out->type == kSectionNobits || slice(image_, offset, size, &out->content);
  }

  // The section called `first` and `second` together.
  template <size_t N>
  bool find(const char (&first)[N], const char *second, ByteSpan *out) const {
    constexpr size_t a = N - 1;
    const size_t b = std::strlen(second) + 1;
    ByteSpan headers;
    if (!slice(image_, table_, count_ * kSectionBytes, &headers)) return false;
    for (uint32_t i = 0; i < count_; ++i) {
      uint32_t at_name = 0;
      ByteSpan name;
      std::memcpy(&at_name, headers.data + i * kSectionBytes, sizeof at_name);
      if (!slice(names_, at_name, a + b, &name) || std::memcmp(name.data, first, a) != 0) continue;
      Section section;
      if (std::memcmp(name.data + a, second, b) != 0 || !at(i, &section)) continue;
      *out = section.content;
      return out->data != nullptr;
    }
    return false;
  }

 private:
  ByteSpan image_ = kNothing;
  ByteSpan names_ = kNothing;
  uint64_t table_ = 0;
  uint16_t count_ = 0;
};

// ---- Cubins -------------------------------------------------------------------------------------------

// Attributes of .nv.info, as cuobjdump -elf names them: EIATTR_...
constexpr uint8_t kMaxThreads = 0x05, kReqntid = 0x10, kKparamInfo = 0x17, kCbankParamSize = 0x19;
constexpr uint8_t kPayloadFollows = 4;  // format EIFMT_SVAL: `value` is the size of what follows
constexpr size_t kKparamBytes = 12;     // u32 index, u16 number, u16 offset, u32 with the size from bit 18 on

struct Attribute {
  uint8_t number;
  uint16_t value;
  ByteSpan payload;
};

// The attribute at `*at`, which moves behind it; false at the end, and where one is cut off.
bool next_attribute(ByteSpan section, size_t *at, Attribute *out) {
  uint8_t format = 0;
  if (!load(section, *at, &format) || !load(section, *at + 1, &out->number) ||
      !load(section, *at + 2, &out->value)) {
    return false;
  }
  const size_t size = format == kPayloadFollows ? out->value : 0;
  if (!slice(section, *at + 4, size, &out->payload)) return false;
  *at += 4 + size;
  return true;
}

uint32_t block_of(ByteSpan triple) {
  uint32_t axes[3] = {};
  for (unsigned i = 0; i < 3; ++i) load(triple, 4 * i, &axes[i]);
  return axes[0] * axes[1] * axes[2];
}

void read_attribute(const Attribute &attribute, Note *out) {
  switch (attribute.number) {
    case kKparamInfo:
      if (out->param_count++ == 0) out->next = attribute.payload;
      break;
    case kCbankParamSize: out->param_bytes = attribute.value; break;
    case kMaxThreads: out->max_threads = block_of(attribute.payload); break;
    case kReqntid: out->exact_threads = block_of(attribute.payload); break;
    default: break;
  }
}

bool read_param(ByteSpan payload, uint32_t index, Param *out) {
  uint16_t number = 0, offset = 0;
  uint32_t packed = 0;
  if (payload.size != kKparamBytes || !load(payload, 4, &number) || number != index) return false;
  load(payload, 6, &offset);
  load(payload, 8, &packed);
  *out = {offset, packed >> 18};
  return true;
}

bool cubin_param(const Note &note, uint32_t index, Param *out) {
  // They lie in a row, the last one first; elsewhere is looked for what does not.
  constexpr size_t kRecordBytes = 4 + kKparamBytes;
  ByteSpan payload;
  const auto first = static_cast<size_t>(note.next.data - note.params.data);
  if (index < note.param_count &&
      slice(note.params, first + (note.param_count - 1 - index) * kRecordBytes, kKparamBytes, &payload) &&
      payload.data[-3] == kKparamInfo && read_param(payload, index, out)) {
    return true;
  }
  Attribute attribute;
  for (size_t at = 0; next_attribute(note.params, &at, &attribute);) {
    if (attribute.number == kKparamInfo && read_param(attribute.payload, index, out)) return true;
  }
  return false;
}

// ---- MessagePack --------------------------------------------------------------------------------------

// One value: what it is, and where what is in it starts.
struct Value {
  enum class Type : uint8_t { kOther, kInteger, kText, kList, kMap };
  Type type;
  uint64_t number;   // the integer; the bytes of text; how many values lie in a list; how many pairs in a map
  ByteSpan content;  // text, or all that follows
};

bool big_endian(ByteSpan bytes, size_t count, uint64_t *out) {
  if (bytes.size < count) return false;
  *out = 0;
  for (size_t i = 0; i < count; ++i) *out = *out << 8 | bytes.data[i];
  return true;
}

// The forms of a value whose length, count or integer is in the bytes behind the first one.
struct Form {
  uint8_t first;
  uint8_t bytes;
  Value::Type type;
  bool skipped;  // so many bytes of other content follow
};
constexpr Form kForms[] = {
    {0xc4, 1, Value::Type::kOther, true},    {0xc5, 2, Value::Type::kOther, true},
    {0xc6, 4, Value::Type::kOther, true},    {0xca, 4, Value::Type::kOther, false},
    {0xcb, 8, Value::Type::kOther, false},   {0xcc, 1, Value::Type::kInteger, false},
    {0xcd, 2, Value::Type::kInteger, false}, {0xce, 4, Value::Type::kInteger, false},
    {0xcf, 8, Value::Type::kInteger, false}, {0xd0, 1, Value::Type::kOther, false},
    {0xd1, 2, Value::Type::kOther, false},   {0xd2, 4, Value::Type::kOther, false},
    {0xd3, 8, Value::Type::kOther, false},   {0xd9, 1, Value::Type::kText, false},
    {0xda, 2, Value::Type::kText, false},    {0xdb, 4, Value::Type::kText, false},
    {0xdc, 2, Value::Type::kList, false},    {0xdd, 4, Value::Type::kList, false},
    {0xde, 2, Value::Type::kMap, false},     {0xdf, 4, Value::Type::kMap, false},
};

bool read_long(uint8_t first, ByteSpan bytes, Value *out) {
  if (first == 0xc0 || first == 0xc2 || first == 0xc3 || first >= 0xe0) {  // nil, false, true, below zero
    *out = {Value::Type::kOther, 0, bytes};
    return true;
  }
  for (const Form &form : kForms) {
    if (form.first != first) continue;
    uint64_t number = 0;
    if (!big_endian(bytes, form.bytes, &number)) return false;
    *out = {form.type, number, rest(bytes, form.bytes)};
    if (form.type == Value::Type::kText) return slice(out->content, 0, number, &out->content);
    return !form.skipped || slice(out->content, number, out->content.size - number, &out->content);
  }
  return false;  // what a metadata note has no use for
}

// Reads one value without what a list or map holds; `*bytes` then starts behind it.
bool read_value(ByteSpan *bytes, Value *out) {
  uint8_t first = 0;
  if (!load(*bytes, 0, &first)) return false;
  const ByteSpan behind = rest(*bytes, 1);
  bool whole = true;
  if (first <= 0x7f) {
    *out = {Value::Type::kInteger, first, behind};
  } else if (first <= 0x9f) {
    *out = {first <= 0x8f ? Value::Type::kMap : Value::Type::kList, uint64_t{first} & 0x0f, behind};
  } else if (first <= 0xbf) {
    *out = {Value::Type::kText, uint64_t{first} & 0x1f, kNothing};
    whole = slice(behind, 0, out->number, &out->content);
  } else {
    whole = read_long(first, behind, out);
  }
  if (!whole) return false;
  const unsigned char *end = bytes->data + bytes->size;
  const unsigned char *next = out->content.data;
  if (out->type == Value::Type::kText) next += out->content.size;
  *bytes = {next, static_cast<size_t>(end - next)};
  return true;
}

// Moves `*bytes` behind the value that starts there, and all that is in it.
bool skip_value(ByteSpan *bytes) {
  // Each value is a byte at least, so a count beyond what is left runs into the end soon.
  for (uint64_t left = 1; left > 0; --left) {
    Value value;
    if (!read_value(bytes, &value)) return false;
    if (value.type == Value::Type::kList) left += value.number;
    if (value.type == Value::Type::kMap) left += 2 * value.number;
  }
  return true;
}

// The value of `key` in the map at `bytes`; false if that is no map, or has no such key.
bool find_key(ByteSpan bytes, const char *key, ByteSpan *out) {
  Value map;
  const size_t length = std::strlen(key);
  if (!read_value(&bytes, &map) || map.type != Value::Type::kMap) return false;
  for (uint64_t i = 0; i < map.number; ++i) {
    ByteSpan name = bytes;
    Value found;
    if (!skip_value(&bytes) || !read_value(&name, &found)) return false;
    if (found.type == Value::Type::kText && equal(found.content, key, length)) {
      *out = bytes;
      return true;
    }
    if (!skip_value(&bytes)) return false;
  }
  return false;
}

bool find_number(ByteSpan map, const char *key, uint32_t *out) {
  ByteSpan bytes;
  Value value;
  if (!find_key(map, key, &bytes) || !read_value(&bytes, &value)) return false;
  if (value.type != Value::Type::kInteger || value.number > UINT32_MAX) return false;
  *out = static_cast<uint32_t>(value.number);
  return true;
}

bool find_text(ByteSpan map, const char *key, ByteSpan *out) {
  ByteSpan bytes;
  Value value;
  if (!find_key(map, key, &bytes) || !read_value(&bytes, &value)) return false;
  *out = value.content;
  return value.type == Value::Type::kText;
}

// ---- AMD code objects -----------------------------------------------------------------------------------

constexpr uint32_t kMetadata = 32;  // NT_AMDGPU_METADATA

uint64_t padded(uint32_t bytes) { return (uint64_t{bytes} + 3) / 4 * 4; }

// The metadata among the notes of a section.
bool find_metadata(ByteSpan notes, ByteSpan *out) {
  uint32_t owner_bytes = 0, body_bytes = 0, type = 0;
  while (load(notes, 0, &owner_bytes) && load(notes, 4, &body_bytes) && load(notes, 8, &type)) {
    ByteSpan owner;
    const uint64_t body_at = 12 + padded(owner_bytes);
    if (!slice(notes, 12, owner_bytes, &owner) || !slice(notes, body_at, body_bytes, out)) return false;
    if (type == kMetadata && equal(owner, "AMDGPU", sizeof "AMDGPU")) return true;
    if (!slice(notes, body_at + padded(body_bytes), 0, &owner)) return false;
    notes = rest(notes, static_cast<size_t>(body_at + padded(body_bytes)));
  }
  return false;
}

// The map of kernel `entry` in a code object.
bool find_kernel(ByteSpan metadata, const char *entry, ByteSpan *out) {
  ByteSpan kernels;
  Value list;
  if (!find_key(metadata, "amdhsa.kernels", &kernels) || !read_value(&kernels, &list) ||
      list.type != Value::Type::kList) {
    return false;
  }
  const size_t length = std::strlen(entry);
  for (uint64_t i = 0; i < list.number; ++i) {
    ByteSpan name;
    *out = kernels;
    if (!skip_value(&kernels)) return false;
    if (find_text(*out, ".name", &name) && equal(name, entry, length)) return true;
  }
  return false;
}

// The next argument of the list in `note`, and whether the caller passes it.
bool next_argument(Note *note, Param *out, bool *visible) {
  const ByteSpan argument = note->next;
  ByteSpan kind;
  if (!skip_value(&note->next) || !find_text(argument, ".value_kind", &kind) ||
      !find_number(argument, ".offset", &out->offset) || !find_number(argument, ".size", &out->size)) {
    return false;
  }
  constexpr size_t length = sizeof "hidden_" - 1;
  *visible = kind.size < length || std::memcmp(kind.data, "hidden_", length) != 0;
  ++note->next_argument;
  note->next_index += *visible ? 1 : 0;
  return true;
}

void rewind(Note *note) {
  note->next = note->params;
  note->next_argument = note->next_index = 0;
}

bool hsaco_param(Note *note, uint32_t index, Param *out) {
  if (index < note->next_index) rewind(note);
  bool visible = false;
  do {
    if (note->next_index == note->param_count || !next_argument(note, out, &visible)) return false;
  } while (!visible || note->next_index <= index);
  return true;
}

// Finds the list of arguments, and counts those that a caller passes. A kernel without any has no list.
bool read_arguments(ByteSpan kernel, Note *out) {
  ByteSpan arguments;
  Value list;
  if (!find_key(kernel, ".args", &arguments)) return true;
  if (!read_value(&arguments, &list) || list.type != Value::Type::kList) return false;
  out->params = arguments;
  rewind(out);
  Param param;
  bool visible;
  while (out->next_argument < list.number) {
    if (!next_argument(out, &param, &visible)) return false;
  }
  out->param_count = out->next_index;
  rewind(out);
  return true;
}

}  // namespace

bool read_cubin_note(ByteSpan image, const char *entry, Note *out) {
  *out = Note{};
  out->is_cubin = true;
  Elf elf;
  if (!elf.open(image, kMachineCuda) || !elf.find(".nv.info.", entry, &out->params)) return false;
  size_t at = 0;
  Attribute attribute;
  while (next_attribute(out->params, &at, &attribute)) read_attribute(attribute, out);
  return at == out->params.size;
}

bool read_hsaco_note(ByteSpan image, const char *entry, Note *out) {
  *out = Note{};
  Elf elf;
  if (!elf.open(image, kMachineAmdgpu)) return false;
  ByteSpan metadata = kNothing, kernel = kNothing;
  for (uint32_t i = 0; i < elf.size(); ++i) {
    Section section;
    if (elf.at(i, &section) && section.type == kSectionNote && find_metadata(section.content, &metadata))
      break;
    metadata = kNothing;
  }
  return find_kernel(metadata, entry, &kernel) &&
         find_number(kernel, ".kernarg_segment_size", &out->param_bytes) &&
         find_number(kernel, ".max_flat_workgroup_size", &out->max_threads) &&
         find_number(kernel, ".group_segment_fixed_size", &out->static_shared_bytes) &&
         find_number(kernel, ".wavefront_size", &out->warp_size) && read_arguments(kernel, out);
}

bool param_at(Note *note, uint32_t index, Param *out) {
  return note->is_cubin ? cubin_param(*note, index, out) : hsaco_param(note, index, out);
}

}  // namespace kpk
