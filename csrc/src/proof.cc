#include "proof.h"

#include "message.h"

namespace kpk {
namespace {

constexpr const char *kBuildAgain = "build the archive again";
constexpr uint32_t kPortableCluster = 8;  // CTAs that every device with clusters takes

void add_param(uint32_t index, const Param &param, Text *out) {
  out->add("%s%u:%u", index == 0 ? "" : " ", param.offset, param.size);
}

[[gnu::cold]] kpk_status refuse_layout(const kpk_abi_image &image, const Word &word) {
  const Table<kpk_abi_slot> layout(image.layout);
  Text out = message();
  out.add("%s: parameter layout: expected (in the archive) ", text(image.symbol));
  for (uint32_t i = 0; i < layout.size(); ++i) add_param(i, {layout[i].offset, layout[i].size}, &out);
  out.add("%s, got (from %s) ", layout.size() == 0 ? "none" : "", word.whose);
  Param param;
  uint32_t count = 0;
  // One more than the archive has says enough.
  while (count <= layout.size() && word.param(word.from, count, &param)) add_param(count++, param, &out);
  out.add("%s; %s", count == 0 ? "none" : "", kBuildAgain);
  return KPK_ERROR_FORMAT;
}

kpk_status prove_layout(const kpk_abi_image &image, const Word &word) {
  if (word.param == nullptr) return KPK_OK;
  const Table<kpk_abi_slot> layout(image.layout);
  Param param;
  for (uint32_t i = 0; i < layout.size(); ++i) {
    const kpk_abi_slot &slot = layout[i];
    if (!word.param(word.from, i, &param) || param.offset != slot.offset || param.size != slot.size)
      return refuse_layout(image, word);
  }
  return word.param(word.from, layout.size(), &param) ? refuse_layout(image, word) : KPK_OK;
}

// Of a number that the archive and the word both have.
kpk_status prove_number(const kpk_abi_image &image, const Word &word, const char *what, uint32_t expected,
                        uint32_t got) {
  if (got == 0 || got == expected) return KPK_OK;
  return fail(KPK_ERROR_FORMAT, "%s: %s: expected (in the archive) %u, got (from %s) %u; %s",
              text(image.symbol), what, expected, word.whose, got, kBuildAgain);
}

// A layout that ends within the block which is passed: nobody reads past it.
kpk_status prove_end(const kpk_abi_image &image) {
  const Table<kpk_abi_slot> layout(image.layout);
  uint64_t end = 0;
  for (uint32_t i = 0; i < layout.size(); ++i) {
    const uint64_t last = uint64_t{layout[i].offset} + layout[i].size;
    if (last > end) end = last;
  }
  if (end <= image.param_bytes) return KPK_OK;
  return fail(KPK_ERROR_FORMAT,
              "%s: parameter block: expected (by its layout) %llu bytes at least, got %u; %s",
              text(image.symbol), static_cast<unsigned long long>(end), image.param_bytes, kBuildAgain);
}

kpk_status prove_block(const kpk_abi_image &image, const Device &device, const Word &word) {
  const char *symbol = text(image.symbol);
  const uint32_t threads = image.num_warps * image.warp_size;
  if (word.exact_threads != 0 && threads != word.exact_threads) {
    return fail(KPK_ERROR_LIMIT,
                "%s: block: expected (in the archive) %u threads, got (from %s) exactly %u; %s", symbol,
                threads, word.whose, word.exact_threads, kBuildAgain);
  }
  if (word.max_threads != 0 && threads > word.max_threads) {
    return fail(KPK_ERROR_LIMIT,
                "%s: block: expected (in the archive) %u threads, got (from %s) at most %u; %s", symbol,
                threads, word.whose, word.max_threads, kBuildAgain);
  }
  const uint32_t of_thread = word.registers != 0 ? word.registers : image.registers;
  const uint64_t registers = uint64_t{threads} * of_thread;
  if (device.max_registers != 0 && registers > device.max_registers) {
    return fail(KPK_ERROR_LIMIT, "%s: needs %llu registers a block (%u threads of %u), %s has %u", symbol,
                static_cast<unsigned long long>(registers), threads, of_thread, device.arch,
                device.max_registers);
  }
  return KPK_OK;
}

kpk_status prove_shared(const kpk_abi_image &image, const Device &device, const Word &word) {
  const uint32_t fixed = word.static_shared_bytes != 0 ? word.static_shared_bytes : image.static_shared_bytes;
  const uint64_t shared = uint64_t{fixed} + image.shared_bytes;
  if (shared <= device.max_shared_bytes) return KPK_OK;
  return fail(KPK_ERROR_LIMIT, "%s: needs %llu bytes of shared memory a block (%u of them static), %s has %u",
              text(image.symbol), static_cast<unsigned long long>(shared), fixed, device.arch,
              device.max_shared_bytes);
}

kpk_status prove_cluster(const kpk_abi_image &image, const Device &device) {
  const uint64_t blocks = uint64_t{image.cluster[0]} * image.cluster[1] * image.cluster[2];
  if (blocks <= 1) return KPK_OK;
  if (!device.has_clusters) {
    return fail(KPK_ERROR_LIMIT, "%s: needs clusters of %llu blocks, %s has none", text(image.symbol),
                static_cast<unsigned long long>(blocks), device.arch);
  }
  if (blocks <= kPortableCluster || (image.flags & KPK_IMAGE_NONPORTABLE_CLUSTER) != 0) return KPK_OK;
  return fail(KPK_ERROR_LIMIT,
              "%s: needs clusters of %llu blocks: expected %u at most of an image that does not say it is "
              "non-portable; %s",
              text(image.symbol), static_cast<unsigned long long>(blocks), kPortableCluster, kBuildAgain);
}

bool param_of_note(void *from, uint32_t index, Param *out) {
  return param_at(static_cast<Note *>(from), index, out);
}

}  // namespace

kpk_status word_of_image(const kpk_abi_image &image, uint8_t kind, Note *note, Word *out) {
  *out = Word{};
  out->whose = "the image";
  if (kind == KPK_IMAGE_PTX) return KPK_OK;
  const ByteSpan bytes = {follow<unsigned char>(image.data), static_cast<size_t>(image.raw_bytes)};
  const bool read = kind == KPK_IMAGE_CUBIN ? read_cubin_note(bytes, text(image.entry), note)
                                            : read_hsaco_note(bytes, text(image.entry), note);
  if (!read) {
    return fail(KPK_ERROR_FORMAT, "%s: expected an image with a note on %s, got none that can be read; %s",
                text(image.symbol), text(image.entry), kBuildAgain);
  }
  out->param = param_of_note;
  out->from = note;
  out->param_bytes = note->param_bytes;
  out->max_threads = note->max_threads;
  out->exact_threads = note->exact_threads;
  out->static_shared_bytes = note->static_shared_bytes;
  out->warp_size = note->warp_size;
  return KPK_OK;
}

kpk_status prove(const kpk_abi_image &image, const Device &device, const Word &word) {
  if (const kpk_status status = prove_layout(image, word)) return status;
  if (const kpk_status status = prove_end(image)) return status;
  if (const kpk_status status =
          prove_number(image, word, "bytes of parameters", image.param_bytes, word.param_bytes)) {
    return status;
  }
  if (const kpk_status status =
          prove_number(image, word, "threads of a warp", image.warp_size, word.warp_size)) {
    return status;
  }
  if (const kpk_status status = prove_block(image, device, word)) return status;
  if (const kpk_status status = prove_shared(image, device, word)) return status;
  return prove_cluster(image, device);
}

}  // namespace kpk
