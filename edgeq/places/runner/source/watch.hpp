// What the system counts: memory of this process, CPU time of others, frequencies.
#pragma once

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <thread>

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Memory {
  long long resident = 0, anonymous = 0, mapped = 0, high_water = 0;

  static Memory read() {
    std::ifstream file("/proc/self/status");
    Memory found;
    for (std::string line; std::getline(file, line);) {
      char name[32];
      long long kib = 0;
      if (std::sscanf(line.c_str(), "%31[A-Za-z]: %lld kB", name, &kib) != 2) continue;
      const std::string key = name;
      if (key == "VmRSS") found.resident = kib * 1024;
      if (key == "RssAnon") found.anonymous = kib * 1024;
      if (key == "RssFile" || key == "RssShmem") found.mapped += kib * 1024;
      if (key == "VmHWM") found.high_water = kib * 1024;
    }
    return found;
  }
};

/// Watches from a thread until `stop`. A peak that no sample saw counts as anonymous.
class Peak {
 public:
  Peak() : thread_([this] { watch(); }) {}

  void stop() {
    over_ = true;
    thread_.join();
    high_water = look();
    anonymous = std::max(anonymous, high_water - mapped_);
  }

  long long high_water = 0, anonymous = 0;

 private:
  void watch() {
    while (!over_) {
      look();
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
  }

  long long look() {
    const Memory now = Memory::read();
    anonymous = std::max(anonymous, now.anonymous);
    mapped_ = std::max(mapped_, now.mapped);
    return now.high_water;
  }

  std::atomic<bool> over_{false};
  long long mapped_ = 0;
  std::thread thread_;
};

/// Other processes and the CPU's frequency while runs are timed, from its creation.
class Bystanders {
 public:
  Bystanders() : begin_(seconds_now()), busy_(busy()), own_(own()), megahertz_(megahertz()) {}

  /// CPUs that others used, on average; none where the system does not count.
  std::optional<double> others() const {
    const double elapsed = seconds_now() - begin_;
    const double all = busy() - busy_, mine = own() - own_;
    if (elapsed < 0.5 || all < mine / 2) return std::nullopt;
    return std::max(0.0, all - mine) / elapsed;
  }

  std::optional<std::pair<double, double>> frequencies() const {
    const auto now = megahertz();
    if (!now || !megahertz_) return std::nullopt;
    return std::minmax(*now, *megahertz_);
  }

 private:
  static double busy() {
    std::ifstream file("/proc/stat");
    std::string word;
    file >> word;
    double ticks = 0, value = 0;
    for (int i = 0; i < 8 && file >> value; ++i)
      if (i != 3 && i != 4) ticks += value;  // neither idle nor waiting for a disk
    return ticks / double(sysconf(_SC_CLK_TCK));
  }

  static double own() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) { return double(time.tv_sec) + time.tv_usec / 1e6; };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }

  static std::optional<double> megahertz() {
    double sum = 0;
    int count = 0;
    for (int cpu = 0; cpu < sysconf(_SC_NPROCESSORS_CONF); ++cpu) {
      std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                         "/cpufreq/scaling_cur_freq");
      double kilohertz = 0;
      if (file >> kilohertz) sum += kilohertz / 1000, ++count;
    }
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; count == 0 && std::getline(cpuinfo, line);) {
      double found = 0;
      if (std::sscanf(line.c_str(), "cpu MHz : %lf", &found) == 1) return found;
    }
    return count ? std::optional<double>(sum / count) : std::nullopt;
  }

  double begin_, busy_, own_;
  std::optional<double> megahertz_;
};

/// One thread per physical core, but no more than the CPUs this process may use.
inline int default_threads() {
  std::set<std::string> cores;
  for (int cpu = 0; cpu < sysconf(_SC_NPROCESSORS_CONF); ++cpu) {
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    std::ifstream core(folder + "core_id"), package(folder + "physical_package_id");
    std::string first, second;
    if (core >> first && package >> second) cores.insert(second + ":" + first);
  }
  cpu_set_t usable;
  CPU_ZERO(&usable);
  const int most = sched_getaffinity(0, sizeof usable, &usable) == 0
                       ? CPU_COUNT(&usable)
                       : int(sysconf(_SC_NPROCESSORS_ONLN));
  return std::max(1, cores.empty() ? most : std::min(int(cores.size()), most));
}
