// ELF, and what the two vendors' images have in common.
#include "image_note.h"

#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace fakes {
namespace {

constexpr uint64_t kLargest = uint64_t{1} << 31;  // no image is larger; a wild header is

// The NUL-terminated text at `offset` of a string section.
bool text_at(const Elf::Section &strings, uint64_t offset, std::string *out) {
  if (strings.data == nullptr || offset >= strings.size) return false;
  const auto *begin = reinterpret_cast<const char *>(strings.data) + offset;
  const size_t room = static_cast<size_t>(strings.size - offset);
  const size_t length = strnlen(begin, room);
  if (length == room) return false;
  out->assign(begin, length);
  return true;
}

}  // namespace

bool mapped(const void *data, size_t bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t first = reinterpret_cast<uintptr_t>(data) / page * page;
  const uintptr_t last = reinterpret_cast<uintptr_t>(data) + std::max<size_t>(bytes, 1);
  if (last < first) return false;
  std::vector<unsigned char> resident((last - first + page - 1) / page);
  return mincore(reinterpret_cast<void *>(first), last - first, resident.data()) == 0;
}

bool file_backed(const void *data) {
  std::FILE *maps = std::fopen("/proc/self/maps", "r");
  if (maps == nullptr) return false;
  const auto address = reinterpret_cast<uintptr_t>(data);
  char line[4608];
  bool found = false;
  while (!found && std::fgets(line, sizeof line, maps) != nullptr) {
    unsigned long begin = 0;
    unsigned long end = 0;
    unsigned long inode = 0;
    if (std::sscanf(line, "%lx-%lx %*s %*s %*s %lu", &begin, &end, &inode) != 3) continue;
    found = begin <= address && address < end && inode != 0;
  }
  std::fclose(maps);
  return found;
}

const Kernel *Image::find(const std::string &name) const {
  for (const Kernel &kernel : kernels) {
    if (kernel.name == name) return &kernel;
  }
  return nullptr;
}

bool Elf::open(const void *data) {
  const auto *base = static_cast<const unsigned char *>(data);
  if (!mapped(base, SELFMAG) || std::memcmp(base, ELFMAG, SELFMAG) != 0) return false;
  if (!mapped(base, sizeof(Elf64_Ehdr))) return false;
  const auto header = load<Elf64_Ehdr>(base);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) return false;
  if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum == 0) return false;
  if (header.e_shoff < sizeof header || header.e_shoff > kLargest) return false;
  const uint64_t table_bytes = uint64_t{header.e_shnum} * sizeof(Elf64_Shdr);
  if (!mapped(base + header.e_shoff, table_bytes)) return false;

  machine = header.e_machine;
  flags = header.e_flags;
  os_abi = header.e_ident[EI_OSABI];
  size = static_cast<size_t>(header.e_shoff + table_bytes);
  if (header.e_phnum != 0) {  // ptxas writes the program headers last
    if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phoff > kLargest) return false;
    const uint64_t end = header.e_phoff + uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
    size = std::max(size, static_cast<size_t>(end));
  }
  std::vector<uint32_t> names;
  sections.clear();
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    const auto raw = load<Elf64_Shdr>(base + header.e_shoff + i * sizeof(Elf64_Shdr));
    Section section;
    section.type = raw.sh_type;
    section.link = raw.sh_link;
    section.info = raw.sh_info;
    section.size = raw.sh_size;
    if (raw.sh_type != SHT_NOBITS && raw.sh_type != SHT_NULL) {
      if (raw.sh_offset > kLargest || raw.sh_size > kLargest) return false;
      size = std::max(size, static_cast<size_t>(raw.sh_offset + raw.sh_size));
      section.data = base + raw.sh_offset;
    }
    sections.push_back(section);
    names.push_back(raw.sh_name);
  }
  if (!mapped(base, size) || header.e_shstrndx >= sections.size()) return false;
  if (sections[header.e_shstrndx].type != SHT_STRTAB) return false;
  const Section strings = sections[header.e_shstrndx];
  for (size_t i = 0; i < sections.size(); ++i) {
    if (!text_at(strings, names[i], &sections[i].name)) return false;
  }
  return true;
}

const Elf::Section *Elf::find(const std::string &name) const {
  for (const Section &section : sections) {
    if (section.name == name) return &section;
  }
  return nullptr;
}

std::vector<Elf::Symbol> Elf::symbols(const char *table) const {
  std::vector<Symbol> out;
  const Section *section = find(table);
  if (section == nullptr || section->data == nullptr || section->link >= sections.size()) return out;
  for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= section->size; at += sizeof(Elf64_Sym)) {
    const auto raw = load<Elf64_Sym>(section->data + at);
    Symbol symbol;
    symbol.type = ELF64_ST_TYPE(raw.st_info);
    symbol.section = raw.st_shndx;
    if (text_at(sections[section->link], raw.st_name, &symbol.name))
      out.push_back(symbol);
    else
      out.emplace_back();  // keeps the indices: .nv.info names symbols by them
  }
  return out;
}

}  // namespace fakes
