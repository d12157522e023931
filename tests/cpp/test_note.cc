// What images say of themselves, beside what the fakes read in them with code of their own, and then damaged in
// every way; and the proof that an archive says the same. `test_note FOLDER SAMPLES`.

#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "image_note.h"
#include "note.h"
#include "proof.h"

namespace {

std::string folder, samples;

struct Sample {
  std::string name;
  std::string bytes;
  std::string entry;
  fakes::Kernel kernel;
  bool cubin;
};

std::string read(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  CHECK(!bytes.empty());
  return bytes;
}

std::vector<Sample> all_samples() {
  std::vector<Sample> out;
  for (const std::string &path :
       {folder + "/sm_80.cubin", folder + "/sm_90.cubin", folder + "/gfx90a.hsaco", folder + "/gfx1100.hsaco",
        samples + "/softmax.cubin", samples + "/softmax.hsaco"}) {
    Sample sample{path, read(path), "", {}, path.find(".cubin") != std::string::npos};
    fakes::Image image;
    CHECK((sample.cubin ? fakes::parse_cuda(sample.bytes.data(), &image)
                        : fakes::parse_hip(sample.bytes.data(), &image)) == fakes::Parsed::kOk);
    EXPECT_EQ(image.kernels.size(), size_t{1});
    sample.kernel = image.kernels[0];
    sample.entry = sample.kernel.name;
    out.push_back(sample);
  }
  return out;
}

// From memory of exactly this size, so that a sanitizer sees a byte too far.
bool read_note(const Sample &sample, const std::string &bytes, const std::string &entry, kpk::Note *out) {
  const std::unique_ptr<unsigned char[]> exact(new unsigned char[bytes.size()]);
  std::memcpy(exact.get(), bytes.data(), bytes.size());
  const kpk::ByteSpan image = {exact.get(), bytes.size()};
  const bool good = sample.cubin ? kpk::read_cubin_note(image, entry.c_str(), out)
                                 : kpk::read_hsaco_note(image, entry.c_str(), out);
  kpk::Param param;
  uint32_t count = 0;
  while (good && count <= out->param_count && kpk::param_at(out, count, &param)) ++count;
  if (good) kpk::param_at(out, 0, &param);
  return good;
}

TEST(a_note_says_what_the_fakes_read_in_it) {
  for (const Sample &sample : all_samples()) {
    kpk::Note note;
    const kpk::ByteSpan image = {reinterpret_cast<const unsigned char *>(sample.bytes.data()),
                                 sample.bytes.size()};
    CHECK(sample.cubin ? kpk::read_cubin_note(image, sample.entry.c_str(), &note)
                       : kpk::read_hsaco_note(image, sample.entry.c_str(), &note));
    CHECK(sample.kernel.params.size() > 4);
    EXPECT_EQ(note.param_count, sample.kernel.params.size());
    EXPECT_EQ(note.param_bytes, sample.kernel.param_bytes);
    EXPECT_EQ(note.max_threads, sample.kernel.max_threads);
    EXPECT_EQ(note.warp_size, sample.kernel.wavefront);
    const uint32_t *required = sample.kernel.required_block;
    EXPECT_EQ(note.exact_threads, required[0] * required[1] * required[2]);
    CHECK(note.exact_threads + note.max_threads != 0);
    for (const bool backwards : {false, true}) {
      for (uint32_t i = 0; i < note.param_count; ++i) {
        const uint32_t index = backwards ? note.param_count - 1 - i : i;
        kpk::Param param;
        CHECK(kpk::param_at(&note, index, &param));
        EXPECT_EQ(param.offset, sample.kernel.params[index].offset);
        EXPECT_EQ(param.size, sample.kernel.params[index].size);
      }
    }
    kpk::Param param;
    CHECK(!kpk::param_at(&note, note.param_count, &param));
    CHECK(!kpk::param_at(&note, UINT32_MAX, &param));
  }
}

TEST(another_kernel_or_another_kind_of_image_has_no_note) {
  for (const Sample &sample : all_samples()) {
    kpk::Note note;
    for (const std::string &entry : {sample.entry + "x", sample.entry.substr(1), std::string()})
      CHECK(!read_note(sample, sample.bytes, entry, &note));
    Sample other = sample;
    other.cubin = !sample.cubin;
    CHECK(!read_note(other, sample.bytes, sample.entry, &note));
  }
}

TEST(a_truncated_image_is_never_read_past_its_end) {
  for (const Sample &sample : all_samples()) {
    kpk::Note note;
    size_t good = 0;
    for (size_t size = 0; size < sample.bytes.size(); ++size)
      good += read_note(sample, sample.bytes.substr(0, size), sample.entry, &note) ? 1 : 0;
    // Sections come first in a cubin and last in a code object: without its end it is damaged.
    CHECK(good < sample.bytes.size() / 2);
  }
}

TEST(a_damaged_image_is_never_read_outside_of_it) {
  uint64_t random = 88172645463325252;
  const auto next = [&random](size_t below) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return static_cast<size_t>(random % below);
  };
  for (const Sample &sample : all_samples()) {
    for (int round = 0; round < 1500; ++round) {
      std::string bytes = sample.bytes;
      for (size_t edits = 1 + next(8); edits > 0; --edits) {
        // Half of them where sections and notes are described.
        const size_t at = next(2) == 0 ? next(bytes.size()) : bytes.size() - 1 - next(bytes.size() / 3);
        const unsigned char extreme[] = {0x00, 0xff, 0x7f, 0x80, 0xdd, 0xdf};
        bytes[at] = static_cast<char>(next(2) == 0 ? next(256) : extreme[next(sizeof extreme)]);
      }
      kpk::Note note;
      read_note(sample, bytes, sample.entry, &note);
    }
  }
}

// Every byte of the sections that are read, at the values that mean most.
TEST(each_byte_of_a_note_may_be_wrong) {
  for (const Sample &sample : all_samples()) {
    const size_t begin = sample.bytes.find(sample.cubin ? std::string("\x04\x17", 2) : "amdhsa.kernels");
    CHECK(begin != std::string::npos);
    for (size_t at = begin; at < begin + 900 && at < sample.bytes.size(); ++at) {
      for (const int value : {0x00, 0x04, 0x80, 0x90, 0xc4, 0xdb, 0xdd, 0xdf, 0xff}) {
        std::string bytes = sample.bytes;
        bytes[at] = static_cast<char>(value);
        kpk::Note note;
        read_note(sample, bytes, sample.entry, &note);
      }
    }
  }
}

// ---- The proof ------------------------------------------------------------------------------------------

// An image with three parameters, as the archive has it.
struct Archived {
  kpk_abi_image image = {};
  kpk_abi_slot slots[3] = {};
  char symbol[12] = "scale.sm_90";

  Archived() {
    const uint32_t sizes[] = {8, 8, 4};
    for (uint32_t i = 0; i < 3; ++i) slots[i].offset = 8 * i, slots[i].size = sizes[i];
    refer(&image.layout.data, slots);
    refer(&image.symbol, symbol);
    image.layout.count = 3;
    image.layout.stride = sizeof slots[0];
    image.num_warps = 4;
    image.warp_size = 32;
    image.param_bytes = 20;
    image.cluster[0] = image.cluster[1] = image.cluster[2] = 1;
  }
  Archived(const Archived &) = delete;
  Archived &operator=(const Archived &) = delete;

  static void refer(kpk_ref *from, const void *to) {
    *from = reinterpret_cast<intptr_t>(to) - reinterpret_cast<intptr_t>(from);
  }
};

using Params = std::vector<kpk::Param>;
const Params kParams = {{0, 8}, {8, 8}, {16, 4}};

bool param_of(void *from, uint32_t index, kpk::Param *out) {
  const Params &params = *static_cast<Params *>(from);
  if (index >= params.size()) return false;
  *out = params[index];
  return true;
}

kpk::Word word_of(Params &params) {
  kpk::Word word = {};
  word.whose = "the driver";
  word.param = param_of;
  word.from = &params;
  return word;
}

kpk::Device device_of(const char *arch) {
  kpk::Device device = {};
  CHECK(kpk::describe_arch(arch, &device));
  return device;
}

std::string refusal(const Archived &archived, const kpk::Word &word, kpk_status expected,
                    const char *arch = "sm_90") {
  EXPECT_EQ(kpk::prove(archived.image, device_of(arch), word), expected);
  return expected == KPK_OK ? std::string() : std::string(kpk_message());
}

std::string layout_refusal(Params params) {
  const Archived archived;
  return refusal(archived, word_of(params), KPK_ERROR_FORMAT);
}

TEST(a_layout_that_is_the_archives_is_proven) {
  const Archived archived;
  Params params = kParams;
  refusal(archived, word_of(params), KPK_OK);
  kpk::Word silent = {};
  silent.whose = "the driver";
  refusal(archived, silent, KPK_OK);
}

TEST(another_layout_is_refused_with_both_sides) {
  const std::string expected =
      "scale.sm_90: parameter layout: expected (in the archive) 0:8 8:8 16:4, got (from the driver) ";
  EXPECT_EQ(layout_refusal({{0, 8}, {8, 8}, {16, 8}}), expected + "0:8 8:8 16:8; build the archive again");
  EXPECT_EQ(layout_refusal({{0, 8}, {8, 8}, {20, 4}}), expected + "0:8 8:8 20:4; build the archive again");
  EXPECT_EQ(layout_refusal({{0, 8}, {8, 8}}), expected + "0:8 8:8; build the archive again");
  EXPECT_EQ(layout_refusal({{0, 8}, {8, 8}, {16, 4}, {24, 8}}),
            expected + "0:8 8:8 16:4 24:8; build the archive again");
  EXPECT_EQ(layout_refusal({}), expected + "none; build the archive again");
}

TEST(a_layout_that_ends_behind_its_block_is_refused) {
  Archived archived;
  Params params = kParams;
  archived.image.param_bytes = 19;
  EXPECT_EQ(
      refusal(archived, word_of(params), KPK_ERROR_FORMAT),
      std::string("scale.sm_90: parameter block: expected (by its layout) 20 bytes at least, got 19; build "
                  "the archive again"));
}

TEST(sizes_that_the_archive_has_otherwise_are_refused_with_both_sides) {
  const Archived archived;
  Params params = kParams;
  kpk::Word word = word_of(params);
  word.param_bytes = 24;
  EXPECT_EQ(
      refusal(archived, word, KPK_ERROR_FORMAT),
      std::string("scale.sm_90: bytes of parameters: expected (in the archive) 20, got (from the driver) "
                  "24; build the archive again"));
  word = word_of(params);
  word.warp_size = 64;
  EXPECT_EQ(refusal(archived, word, KPK_ERROR_FORMAT),
            std::string("scale.sm_90: threads of a warp: expected (in the archive) 32, got (from the driver) "
                        "64; build the archive again"));
}

TEST(blocks_that_the_function_does_not_take_are_refused) {
  const Archived archived;
  Params params = kParams;
  kpk::Word word = word_of(params);
  word.max_threads = 128;
  refusal(archived, word, KPK_OK);
  word.max_threads = 127;
  EXPECT_EQ(refusal(archived, word, KPK_ERROR_LIMIT),
            std::string("scale.sm_90: block: expected (in the archive) 128 threads, got (from the driver) at "
                        "most 127; build the archive again"));
  word.max_threads = 0;
  word.exact_threads = 256;
  EXPECT_EQ(refusal(archived, word, KPK_ERROR_LIMIT),
            std::string("scale.sm_90: block: expected (in the archive) 128 threads, got (from the driver) "
                        "exactly 256; build the archive again"));
}

TEST(registers_and_shared_memory_beyond_the_device_are_refused) {
  Archived archived;
  Params params = kParams;
  kpk::Word word = word_of(params);
  archived.image.num_warps = 16;
  word.registers = 128;
  refusal(archived, word, KPK_OK);
  word.registers = 129;
  EXPECT_EQ(refusal(archived, word, KPK_ERROR_LIMIT),
            std::string("scale.sm_90: needs 66048 registers a block (512 threads of 129), sm_90 has 65536"));
  refusal(archived, word, KPK_OK, "gfx90a");  // whose compiler has counted
  word.registers = 0;
  archived.image.shared_bytes = 232448;
  refusal(archived, word, KPK_OK);
  word.static_shared_bytes = 16;
  EXPECT_EQ(refusal(archived, word, KPK_ERROR_LIMIT),
            std::string("scale.sm_90: needs 232464 bytes of shared memory a block (16 of them static), sm_90 "
                        "has 232448"));
}

TEST(clusters_need_a_device_that_has_them) {
  Archived archived;
  Params params = kParams;
  archived.image.cluster[0] = 4;
  archived.image.cluster[1] = 2;
  refusal(archived, word_of(params), KPK_OK);
  EXPECT_EQ(refusal(archived, word_of(params), KPK_ERROR_LIMIT, "sm_80"),
            std::string("scale.sm_90: needs clusters of 8 blocks, sm_80 has none"));
  archived.image.cluster[2] = 2;
  CHECK(refusal(archived, word_of(params), KPK_ERROR_LIMIT)
            .find("needs clusters of 16 blocks: expected 8 at "
                  "most") != std::string::npos);
  archived.image.flags = KPK_IMAGE_NONPORTABLE_CLUSTER;
  refusal(archived, word_of(params), KPK_OK);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  folder = argv[1];
  samples = argv[2];
  return check::run();
}
