// Opens the model of a bundle with the settings that it was checked with, and runs it.
#pragma once

#include <onnxruntime_cxx_api.h>

#include "answer.hpp"

/// Which of the bundle's session settings this CPU needs for exact kernels.
inline std::string cpu_class() {
#if defined(__aarch64__) || defined(_M_ARM64)
  return "aarch64";
#else
  // Without this file, as on Windows: the exact kernels run on every CPU, a little slower on some.
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.find("avx512_vnni") != line.npos || line.find("avx_vnni") != line.npos) return "";
  return "x86_64-without-vnni";
#endif
}

/// An array that the model takes. It points to `values`, which must stay.
template <typename T>
Ort::Value input(std::vector<T>& values, const std::vector<int64_t>& shape) {
  static const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  return Ort::Value::CreateTensor<T>(memory, values.data(), values.size(), shape.data(),
                                     shape.size());
}

class Session {
 public:
  explicit Session(const fs::path& folder)
      : record(read_json(folder / "bundle.json").at("artifact")),
        session_(environment(), (folder / "model.onnx").c_str(), options(record)) {
    for (const Json& value : record.at("inputs")) inputs.push_back(value.at("name"));
    for (const Json& value : record.at("outputs")) outputs.push_back(value.at("name"));
  }

  /// Runs the model; `values` are in the order of `inputs`.
  Outputs run(const std::vector<Ort::Value>& values) {
    const auto in = pointers(inputs), out = pointers(outputs);
    const auto found = session_.Run(Ort::RunOptions{nullptr}, in.data(), values.data(),
                                    values.size(), out.data(), out.size());
    Outputs answers;
    for (size_t i = 0; i < out.size(); ++i) answers[outputs[i]] = copied(found[i]);
    return answers;
  }

  Ort::Session& runtime() { return session_; }

  const Json record;
  std::vector<std::string> inputs, outputs;

 private:
  static Ort::Env& environment() {
    static Ort::Env env(ORT_LOGGING_LEVEL_ERROR);
    return env;
  }

  static Ort::SessionOptions options(const Json& record) {
    Ort::SessionOptions options;
    const Json settings = record.value("settings", Json::object());
    const Json by_cpu = settings.value("session_by_cpu", Json::object());
    const Json entries = settings.value("session", by_cpu.value(cpu_class(), Json::object()));
    for (const auto& [key, value] : entries.items())
      options.AddConfigEntry(key.c_str(), value.get<std::string>().c_str());
    return options;
  }

  static std::vector<const char*> pointers(const std::vector<std::string>& names) {
    std::vector<const char*> result;
    for (const std::string& name : names) result.push_back(name.c_str());
    return result;
  }

  static Output copied(const Ort::Value& value) {
    const auto info = value.GetTensorTypeAndShapeInfo();
    const size_t count = info.GetElementCount();
    const auto as_floats = [&](auto zero) {
      const auto* first = value.GetTensorData<decltype(zero)>();
      return Output{info.GetShape(), std::vector<float>(first, first + count)};
    };
    switch (info.GetElementType()) {
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return as_floats(0.0f);
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE: return as_floats(0.0);
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return as_floats(int64_t{});
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32: return as_floats(int32_t{});
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16: return as_floats(int16_t{});
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8: return as_floats(int8_t{});
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64: return as_floats(uint64_t{});
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32: return as_floats(uint32_t{});
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16: return as_floats(uint16_t{});
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return as_floats(uint8_t{});
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL: return as_floats(false);
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return as_floats(Ort::Float16_t{});
      default: throw std::runtime_error("an output has a type that session.hpp does not convert");
    }
  }

  Ort::Session session_;
};
