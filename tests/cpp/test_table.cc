// Tuning tables and their crash journal: what is read, what is kept, and what many processes and kills leave of it.

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "check.h"
#include "tune/table.h"

namespace {

using kpk::Entry;

constexpr char kHead[] =
    "# kpack tuning table 1\nkernel,hash,device,overload,call,choice,median_us,fixed_us,left_out\n";

std::string g_folder;

// A path where nothing is yet.
std::string fresh() {
  static int number;
  return g_folder + "/" + std::to_string(++number) + ".csv";
}

std::string contents(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write(const std::string &path, const std::string &text) {
  std::ofstream(path, std::ios::binary) << text;
}

Entry entry(const char *call, const char *choice = "fp16.w4", uint64_t hash = 0xabc) {
  return {"softmax", hash, "sm_90/132", "*fp16,i64", call, choice, 12.3456, 20, ""};
}

void merge(const std::string &path, const Entry &one) {
  EXPECT_EQ(kpk::merge_entries(path.c_str(), &one, 1), KPK_OK);
}

struct Read {
  std::vector<std::string> lines;  // call: choice median left_out
  std::map<std::string, std::string> choices;
  uint32_t rejected = 0;
};

Read read(const std::string &path) {
  Read found;
  const auto take = [](void *user, const Entry &each) {
    std::ostringstream line;
    line << each.kernel << ' ' << std::hex << each.hash << std::dec << ' ' << each.call << ": " << each.choice
         << ' ' << each.median_us << ' ' << each.fixed_us << " [" << each.left_out << ']';
    auto *out = static_cast<Read *>(user);
    out->lines.push_back(line.str());
    out->choices[each.call] = each.choice;
  };
  EXPECT_EQ(kpk::read_table(path.c_str(), take, &found, &found.rejected), KPK_OK);
  return found;
}

// What `body` writes to stderr.
template <class Body>
std::string said(Body body) {
  const std::string path = fresh();
  std::fflush(stderr);
  const int before = dup(STDERR_FILENO);
  FILE *file = std::fopen(path.c_str(), "w");
  dup2(fileno(file), STDERR_FILENO);
  body();
  dup2(before, STDERR_FILENO);
  std::fclose(file);
  close(before);
  return contents(path);
}

template <class Body>
pid_t child(Body body) {
  std::fflush(stdout);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid != 0) return pid;
  body();
  _exit(0);
}

int wait_for(pid_t pid) {
  int status = -1;
  CHECK(waitpid(pid, &status, 0) == pid);
  return status;
}

// ---- one process

TEST(a_table_that_is_not_there_has_no_entries) {
  const Read found = read(fresh());
  EXPECT_EQ(found.lines.size(), size_t{0});
  EXPECT_EQ(found.rejected, uint32_t{0});
}

TEST(what_is_merged_is_read_again) {
  const std::string path = fresh();
  Entry odd = entry("n=1024 16=out_ptr,in_ptr", "a \"quoted\", thing");
  odd.left_out = "x: failed (a\nb); y: wrong";
  merge(path, odd);
  merge(path, entry("n=2048"));
  EXPECT_EQ(contents(path),
            std::string(kHead) +
                "softmax,0000000000000abc,sm_90/132,\"*fp16,i64\",\"n=1024 16=out_ptr,in_ptr\","
                "\"a \"\"quoted\"\", thing\",12.346,20.000,x: failed (a b); y: wrong\n"
                "softmax,0000000000000abc,sm_90/132,\"*fp16,i64\",n=2048,fp16.w4,12.346,20.000,\n");
  const Read found = read(path);
  EXPECT_EQ(
      found.lines[0],
      "softmax abc n=1024 16=out_ptr,in_ptr: a \"quoted\", thing 12.346 20 [x: failed (a b); y: wrong]");
  EXPECT_EQ(found.lines[1], "softmax abc n=2048: fp16.w4 12.346 20 []");
}

TEST(a_later_entry_of_the_same_key_replaces_an_earlier_and_a_stale_one) {
  const std::string path = fresh();
  const Entry first[] = {entry("n=1"), entry("n=2", "old", 1), entry("n=3", "other", 1),
                         entry("n=1", "last")};
  EXPECT_EQ(kpk::merge_entries(path.c_str(), first, 4), KPK_OK);
  EXPECT_EQ(read(path).lines.size(), size_t{3});
  merge(path, entry("n=2", "new", 2));
  const Read found = read(path);
  EXPECT_EQ(found.lines.size(), size_t{3});
  EXPECT_EQ(found.choices.at("n=1"), "last");
  EXPECT_EQ(found.choices.at("n=2"), "new");
  EXPECT_EQ(found.choices.at("n=3"), "other");  // stale, and nobody's business
}

TEST(entries_of_other_devices_and_notes_stay_as_they_are) {
  const std::string path = fresh();
  const std::string note = "# measured at night\n";
  const std::string other = "softmax,0000000000000001,gfx90a:xnack-/104,\"*fp16,i64\",n=1,old,1.5,2,\n";
  write(path, "\xef\xbb\xbf" + std::string(kHead) + "\r\n" + note + other + kHead);
  EXPECT_EQ(read(path).lines.size(), size_t{1});
  merge(path, entry("n=1"));
  const std::string now = contents(path);
  CHECK(now.find(std::string(kHead) + note + other + "softmax,0000000000000abc") == 0);
  EXPECT_EQ(read(path).rejected, uint32_t{0});
}

struct Garbage {
  const char *line, *reason;
};
const Garbage kGarbage[] = {
    {"\x01\x02\xff garbage", "expected text, got a control character"},
    {"softmax,12", "expected 9 values, got fewer"},
    {"softmax,0000000000000001,sm_90/132,o,c,v,1,2,,", "expected 9 values, got more"},
    {"softmax,xyz,sm_90/132,o,c,v,1,2,", "expected a hash of 16 hexadecimal digits, got xyz"},
    {"softmax,0000000000000001,sm_90/132,o,c,v,fast,2,",
     "expected median_us: microseconds as 12.345, got fast"},
    {"softmax,0000000000000001,sm_90/132,o,c,v,1.,2,", "expected median_us: microseconds as 12.345, got 1."},
    {"softmax,0000000000000001,sm_90/132,o,c,v,1,-2,", "expected fixed_us: microseconds as 12.345, got -2"},
    {"softmax,0000000000000001,sm_90/132,\"o,c,v,1,2,",
     "expected quotes in pairs around whole values, got others"},
    {"softmax,0000000000000001,sm_90/132,o,c,,1,2,",
     "expected a kernel, device, overload and choice, got an empty one"},
    {"# kpack tuning table 2", "expected version 1, got kpack tuning table 2"},
    {"softmax,0000000000000001,sm_90/132,o,c,v,1,2,,more of it",
     "expected an entry of version 1, got one of another version"},
};

TEST(each_line_that_is_none_is_told_by_number_and_kept_aside) {
  const std::string path = fresh();
  std::string text = kHead;
  text += "softmax,0000000000000abc,sm_90/132,\"*fp16,i64\",n=1,first,1,2,\n";
  std::string aside, told;
  int number = 3;
  for (const Garbage &each : kGarbage) {
    text += std::string(each.line) + "\n";
    aside += std::string("# ") + each.reason + "\n" + each.line + "\n";
    told +=
        "kpack: " + path + ":" + std::to_string(++number) + ": " + each.reason + "; the line is kept aside\n";
  }
  text += kHead;
  text += "softmax,0000000000000abc,sm_90/132,\"*fp16,i64\",n=2,second,1,2,";  // cut off
  write(path, text);
  setenv("KPACK_LOG", "info", 1);
  EXPECT_EQ(said([&] { EXPECT_EQ(read(path).rejected, uint32_t{sizeof kGarbage / sizeof *kGarbage}); }),
            told);
  EXPECT_EQ(said([&] { EXPECT_EQ(read(path).lines.size(), size_t{2}); }), "");
  unsetenv("KPACK_LOG");
  EXPECT_EQ(contents(path), text);  // reading changes nothing
  merge(path, entry("n=3"));
  EXPECT_EQ(contents(path + ".rejected"), aside);
  const Read found = read(path);
  EXPECT_EQ(found.rejected, uint32_t{0});
  EXPECT_EQ(found.lines.size(), size_t{3});
  merge(path, entry("n=4"));
  EXPECT_EQ(contents(path + ".rejected"), aside);
}

TEST(random_bytes_are_read_and_no_byte_is_lost) {
  std::srand(7);
  for (int round = 0; round < 200; ++round) {
    const std::string path = fresh();
    std::string text = kHead;
    for (int i = 0; i < 300; ++i) {
      const char *likely = ",\"\n#01a.x";
      text += std::rand() % 3 == 0 ? static_cast<char>(std::rand()) : likely[std::rand() % 9];
    }
    write(path, text);
    const Read before = read(path);
    merge(path, entry("n=1"));
    EXPECT_EQ(read(path).lines.size(), before.lines.size() + 1);
    const std::string now = contents(path) + contents(path + ".rejected");
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      CHECK(now.find(line) != std::string::npos);
    }
  }
}

TEST(a_place_that_takes_no_file_is_refused_with_its_reason) {
  const Entry one = entry("n=1");
  EXPECT_EQ(kpk::merge_entries("/nowhere/at/all.csv", &one, 1), KPK_ERROR_ARGUMENT);
  EXPECT_EQ(
      std::string(kpk_message()),
      "tuning table /nowhere/at/all.csv: expected a folder that can be written to, for its lock, got No such "
      "file or directory");
  uint32_t rejected = 0;
  EXPECT_EQ(kpk::read_table(g_folder.c_str(), nullptr, nullptr, &rejected), KPK_ERROR_ARGUMENT);
  CHECK(std::strstr(kpk_message(), "expected a file that can be read, got Is a directory") != nullptr);
}

TEST(a_table_behind_a_link_stays_behind_it) {
  const std::string path = fresh(), link = fresh();
  merge(path, entry("n=1"));
  CHECK(symlink(path.c_str(), link.c_str()) == 0);
  merge(link, entry("n=2"));
  EXPECT_EQ(read(path).lines.size(), size_t{2});
}

// ---- several processes

TEST(processes_and_threads_that_merge_thousands_of_entries_lose_none) {
  const std::string path = fresh();
  constexpr int kProcesses = 2, kThreads = 2, kMerges = 150, kEach = 8;
  const auto tune = [&path](int writer) {
    for (int i = 0; i < kMerges; ++i) {
      std::string calls[kEach];
      Entry entries[kEach];
      for (int e = 0; e < kEach; ++e) {
        calls[e] = "n=" + std::to_string((writer * kMerges + i) * kEach + e);
        entries[e] = entry(calls[e].c_str());
      }
      if (kpk::merge_entries(path.c_str(), entries, kEach) != KPK_OK) _exit(1);
    }
  };
  pid_t pids[kProcesses];
  for (int p = 0; p < kProcesses; ++p) {
    pids[p] = child([&] {
      std::thread threads[kThreads];
      for (int t = 0; t < kThreads; ++t) threads[t] = std::thread(tune, p * kThreads + t);
      for (std::thread &each : threads) each.join();
    });
  }
  for (const pid_t pid : pids) EXPECT_EQ(wait_for(pid), 0);
  const Read found = read(path);
  EXPECT_EQ(found.rejected, uint32_t{0});
  EXPECT_EQ(found.lines.size(), size_t{kProcesses * kThreads * kMerges * kEach});
  EXPECT_EQ(found.choices.size(), found.lines.size());
}

TEST(a_kill_at_any_moment_leaves_a_whole_table_with_all_that_was_merged_before) {
  const std::string path = fresh();
  std::srand(11);
  int merged = 0, kills = 0;
  for (; kills < 60; ++kills) {
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    const int first = merged;
    const pid_t pid = child([&] {
      for (int n = first;; ++n) {
        const std::string call = "n=" + std::to_string(n);
        const Entry one = entry(call.c_str());
        if (kpk::merge_entries(path.c_str(), &one, 1) != KPK_OK) _exit(1);
        if (::write(pipes[1], &n, sizeof n) != sizeof n) _exit(1);
      }
    });
    close(pipes[1]);
    CHECK(::read(pipes[0], &merged, sizeof merged) == sizeof merged);  // it has begun
    ++merged;
    usleep(static_cast<useconds_t>(500 + std::rand() % 20000));
    kill(pid, SIGKILL);
    EXPECT_EQ(WTERMSIG(wait_for(pid)), SIGKILL);
    for (int n; ::read(pipes[0], &n, sizeof n) == sizeof n;) merged = n + 1;
    close(pipes[0]);
    const Read found = read(path);
    EXPECT_EQ(found.rejected, uint32_t{0});
    // The last one may have been written before the child could say so.
    const auto count = static_cast<int>(found.choices.size());
    CHECK(count == merged || count == merged + 1);
    EXPECT_EQ(found.lines.size(), found.choices.size());
    merged = count;
  }
  CHECK(merged >= kills);
}

// ---- the journal

TEST(a_trial_that_its_process_did_not_end_is_a_crash) {
  const std::string path = fresh();
  const Entry one = entry("n=1");
  CHECK(!kpk::crashed_before(path.c_str(), one, "bad"));
  const pid_t pid = child([&] {
    if (kpk::begin_trial(path.c_str(), one, "good") != KPK_OK) _exit(1);
    kpk::end_trial(path.c_str(), one, "good");
    if (kpk::begin_trial(path.c_str(), one, "bad") != KPK_OK) _exit(1);
    raise(SIGKILL);
  });
  CHECK(WIFSIGNALED(wait_for(pid)));
  CHECK(kpk::crashed_before(path.c_str(), one, "bad"));
  CHECK(!kpk::crashed_before(path.c_str(), one, "good"));
  CHECK(!kpk::crashed_before(path.c_str(), entry("n=2"), "bad"));
  CHECK(!kpk::crashed_before(path.c_str(), entry("n=1", "", 2), "bad"));
  // Trials of others come and go; it stays until an entry remembers it.
  EXPECT_EQ(kpk::begin_trial(path.c_str(), entry("n=2"), "bad"), KPK_OK);
  kpk::end_trial(path.c_str(), entry("n=2"), "bad");
  CHECK(kpk::crashed_before(path.c_str(), one, "bad"));
  merge(path, one);
  CHECK(kpk::crashed_before(path.c_str(), one, "bad"));
  Entry remembers = one;
  remembers.left_out = "bad: crashed";
  merge(path, remembers);
  CHECK(!kpk::crashed_before(path.c_str(), one, "bad"));
  EXPECT_EQ(kpk::begin_trial(path.c_str(), one, "next"), KPK_OK);
  kpk::end_trial(path.c_str(), one, "next");
  CHECK(contents(path + ".trying").find("bad") == std::string::npos);  // begun anew
}

TEST(a_trial_that_runs_is_no_crash) {
  const std::string path = fresh();
  const Entry one = entry("n=1");
  EXPECT_EQ(kpk::begin_trial(path.c_str(), one, "mine"), KPK_OK);
  CHECK(!kpk::crashed_before(path.c_str(), one, "mine"));
  EXPECT_EQ(wait_for(child([&] { _exit(kpk::crashed_before(path.c_str(), one, "mine") ? 1 : 0); })), 0);
  kpk::end_trial(path.c_str(), one, "mine");
  EXPECT_EQ(wait_for(child([&] { _exit(kpk::crashed_before(path.c_str(), one, "mine") ? 1 : 0); })), 0);
}

TEST(threads_and_processes_note_their_trials_at_a_time) {
  const std::string path = fresh();
  const auto work = [&path](int worker) {
    const std::string call = "n=" + std::to_string(worker);
    const Entry one = entry(call.c_str());
    for (int i = 0; i < 50; ++i) {
      const std::string name = "v" + std::to_string(i % 5);
      if (kpk::begin_trial(path.c_str(), one, name.c_str()) != KPK_OK) _exit(1);
      if (kpk::crashed_before(path.c_str(), one, name.c_str())) _exit(2);
      if (worker == 3 && i == 25) raise(SIGKILL);
      kpk::end_trial(path.c_str(), one, name.c_str());
    }
  };
  const pid_t dying = child([&] { work(3); });
  const pid_t pid = child([&] {
    std::thread other(work, 0);
    work(1);
    other.join();
  });
  EXPECT_EQ(WTERMSIG(wait_for(dying)), SIGKILL);
  EXPECT_EQ(wait_for(pid), 0);
  CHECK(kpk::crashed_before(path.c_str(), entry("n=3"), "v0"));
  for (const char *call : {"n=0", "n=1"}) CHECK(!kpk::crashed_before(path.c_str(), entry(call), "v0"));
}

}  // namespace

int main(int argc, char **argv) {
  char folder[] = "/tmp/kpack-table-XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  g_folder = folder;
  const int result = check::run(argc > 1 ? argv[1] : "");
  if (DIR *all = opendir(folder)) {
    while (const dirent *each = readdir(all)) unlink((g_folder + "/" + each->d_name).c_str());
    closedir(all);
  }
  rmdir(folder);
  return result;
}
