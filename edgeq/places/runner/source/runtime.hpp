// onnxruntime's C library, opened at run time. Its functions are called by their places in its
// table, which is only ever appended to: no header is needed to build this program.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "npy.hpp"
#include "problem.hpp"

/// Places in `struct OrtApi`.
enum Slot : size_t {
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kDisableTelemetryEvents = 6,
  kCreateSession = 7,
  kRun = 9,
  kCreateSessionOptions = 10,
  kSetOptimizedModelFilePath = 11,
  kDisableMemPattern = 17,
  kSetSessionLogSeverityLevel = 22,
  kSetSessionGraphOptimizationLevel = 23,
  kSetIntraOpNumThreads = 24,
  kSetInterOpNumThreads = 25,
  kCreateTensorWithDataAsOrtValue = 49,
  kGetTensorMutableData = 51,
  kGetTensorElementType = 60,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetTensorTypeAndShape = 65,
  kCreateMemoryInfo = 68,
  kAllocatorFree = 76,
  kGetAllocatorWithDefaultOptions = 78,
  kReleaseStatus = 93,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseTensorTypeAndShapeInfo = 99,
  kReleaseSessionOptions = 100,
  kSessionGetModelMetadata = 111,
  kModelMetadataLookupCustomMetadataMap = 116,
  kReleaseModelMetadata = 118,
  kAddSessionConfigEntry = 130,
  kCreateAndRegisterAllocator = 144,
  kCreateArenaCfgV2 = 164,
};

using Handle = void*;  // of any of its objects

class Runtime {
 public:
  explicit Runtime(const std::string& path) {
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) throw Problem(3, path, std::string("cannot be opened: ") + dlerror(), "");
    struct Base {
      const Handle* (*api)(uint32_t);
      const char* (*version)();
    };
    const auto base = reinterpret_cast<const Base* (*)()>(dlsym(library, "OrtGetApiBase"));
    if (!base) throw Problem(3, path, "is not a library of onnxruntime", "");
    version = base()->version();
    table_ = base()->api(kVersion);
    if (!table_) throw Problem(3, path, "is onnxruntime " + version + ", which is too old", "");
    check(call<Handle>(kCreateEnv, kError, "edgeq-runner", &environment_));
    check(call<Handle>(kDisableTelemetryEvents, environment_));
    check(call<Handle>(kCreateMemoryInfo, "Cpu", kArena, 0, kDefault, &memory_));
  }

  /// One arena for activations of all sessions, growing in small steps, as edgeq's Python has it.
  void register_arena() {
    const char* keys[] = {"max_mem", "arena_extend_strategy", "initial_chunk_size_bytes",
                          "initial_growth_chunk_size_bytes"};
    const size_t values[] = {0, 0, 64 * 1024, 64 * 1024};
    Handle arena = nullptr;
    check(call<Handle>(kCreateArenaCfgV2, keys, values, size_t{4}, &arena));
    check(call<Handle>(kCreateAndRegisterAllocator, environment_, memory_, arena));
  }

  template <typename Result, typename... Arguments>
  Result call(Slot slot, Arguments... arguments) const {
    return reinterpret_cast<Result (*)(Arguments...)>(table_[slot])(arguments...);
  }

  /// Throws what a status says.
  void check(Handle status) const {
    if (!status) return;
    const std::string message = call<const char*>(kGetErrorMessage, status);
    call<void>(kReleaseStatus, status);
    throw std::runtime_error(message);
  }

  /// A tensor in memory of the caller's.
  Handle tensor(void* data, size_t bytes, const std::vector<int64_t>& shape, int type) const {
    Handle value = nullptr;
    check(call<Handle>(kCreateTensorWithDataAsOrtValue, memory_, data, bytes, shape.data(),
                       shape.size(), type, &value));
    return value;
  }

  Handle environment() const { return environment_; }
  std::string version;

 private:
  static constexpr uint32_t kVersion = 18;  // of the table: has every slot above
  static constexpr int kError = 3, kArena = 1, kDefault = 0;
  const Handle* table_ = nullptr;
  Handle environment_ = nullptr, memory_ = nullptr;
};

using Settings = std::map<std::string, std::string>;

/// A session; `optimized` says that the file needs no second pass over its graph.
class Session {
 public:
  Session(const Runtime& runtime, const std::string& path, int threads, Settings settings,
          bool optimized = false, const std::string& save_to = "")
      : runtime_(runtime) {
    Handle options = nullptr;
    runtime.check(runtime.call<Handle>(kCreateSessionOptions, &options));
    set(options, kSetIntraOpNumThreads, threads);
    set(options, kSetInterOpNumThreads, 1);
    set(options, kSetSessionLogSeverityLevel, 3);
    runtime.check(runtime.call<Handle>(kDisableMemPattern, options));
    if (optimized) set(options, kSetSessionGraphOptimizationLevel, 0);
    if (save_to.empty()) settings["session.use_env_allocators"] = "1";
    else runtime.check(runtime.call<Handle>(kSetOptimizedModelFilePath, options, save_to.c_str()));
    for (const auto& [key, value] : settings)
      runtime.check(runtime.call<Handle>(kAddSessionConfigEntry, options, key.c_str(), value.c_str()));
    const Handle status = runtime.call<Handle>(kCreateSession, runtime.environment(), path.c_str(),
                                               static_cast<const void*>(options), &session_);
    runtime.call<void>(kReleaseSessionOptions, options);
    try {
      runtime.check(status);
    } catch (const std::runtime_error& error) {
      throw Problem(2, path, "onnxruntime " + runtime.version + " cannot open it: " + error.what(),
                    "build it again for the version installed there");
    }
    // Memory freed while opening goes back to the system; only glibc needs a call.
    if (const auto trim = reinterpret_cast<int (*)(size_t)>(dlsym(RTLD_DEFAULT, "malloc_trim"))) trim(0);
  }
  ~Session() { runtime_.call<void>(kReleaseSession, session_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Handle handle() const { return session_; }

  /// What the model says under a key; empty if nothing.
  std::string metadata(const char* key) const {
    Handle allocator = nullptr, facts = nullptr;
    runtime_.check(runtime_.call<Handle>(kGetAllocatorWithDefaultOptions, &allocator));
    runtime_.check(runtime_.call<Handle>(kSessionGetModelMetadata, session_, &facts));
    char* found = nullptr;
    const Handle status = runtime_.call<Handle>(
        kModelMetadataLookupCustomMetadataMap, facts, allocator, key, &found);
    runtime_.call<void>(kReleaseModelMetadata, facts);
    runtime_.check(status);
    const std::string value = found ? found : "";
    if (found) runtime_.call<Handle>(kAllocatorFree, allocator, static_cast<void*>(found));
    return value;
  }

 private:
  void set(Handle options, Slot slot, int value) const {
    runtime_.check(runtime_.call<Handle>(slot, options, value));
  }

  const Runtime& runtime_;
  Handle session_ = nullptr;
};

/// One input of a run or several, and the outputs of the last run.
class Feed {
 public:
  Feed(const Runtime& runtime, std::vector<Array> arrays)
      : runtime_(runtime), arrays_(std::move(arrays)) {
    for (Array& array : arrays_)
      values_.push_back(
          runtime.tensor(array.bytes.data(), array.bytes.size(), array.shape, array.dtype->onnx));
  }
  ~Feed() {
    release(values_);
    release(found_);
  }
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  void run(const Session& session, const std::vector<const char*>& inputs,
           const std::vector<const char*>& outputs) {
    release(found_);
    found_.assign(outputs.size(), nullptr);
    runtime_.check(runtime_.call<Handle>(
        kRun, session.handle(), static_cast<const void*>(nullptr), inputs.data(), values_.data(),
        values_.size(), outputs.data(), outputs.size(), found_.data()));
  }

  /// The outputs of the last run, as numpy.save writes them.
  void write(std::ostream& file) const {
    for (const Handle value : found_) {
      Handle info = nullptr;
      runtime_.check(runtime_.call<Handle>(kGetTensorTypeAndShape, value, &info));
      int type = 0;
      size_t rank = 0;
      runtime_.check(runtime_.call<Handle>(kGetTensorElementType, info, &type));
      runtime_.check(runtime_.call<Handle>(kGetDimensionsCount, info, &rank));
      std::vector<int64_t> shape(rank);
      runtime_.check(runtime_.call<Handle>(kGetDimensions, info, shape.data(), rank));
      runtime_.call<void>(kReleaseTensorTypeAndShapeInfo, info);
      void* bytes = nullptr;
      runtime_.check(runtime_.call<Handle>(kGetTensorMutableData, value, &bytes));
      for (const Dtype& each : dtypes)
        if (each.onnx == type) write_array(file, each, shape, bytes);
    }
  }

 private:
  void release(std::vector<Handle>& values) {
    for (const Handle value : values)
      if (value) runtime_.call<void>(kReleaseValue, value);
    values.clear();
  }

  const Runtime& runtime_;
  std::vector<Array> arrays_;
  std::vector<Handle> values_, found_;
};
