// A model from arrays to arrays.
#pragma once

#include "session.hpp"

class Model {
 public:
  explicit Model(const fs::path& folder) : session_(folder) {}

  /// The outputs by name; `values` are in the order of `inputs()`.
  Outputs run(const std::vector<Ort::Value>& values) { return session_.run(values); }
  const std::vector<std::string>& inputs() const { return session_.inputs; }

  /// The outputs for the arrays of the self-test.
  Answer answer(const Json&) {
    const Json described = read_json("inputs/inputs.json");
    std::vector<std::string> bytes;
    std::vector<Ort::Value> values;
    bytes.reserve(described.size());
    for (const std::string& name : inputs()) {
      const Json& array = described.at(name);
      bytes.push_back(read_bytes(fs::path("inputs") / array.at("file").get<std::string>()));
      values.push_back(view(bytes.back(), array.at("dtype"), array.at("shape")));
    }
    return {std::nullopt, run(values), std::nullopt};
  }

 private:
  static std::string read_bytes(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path.string() + " cannot be read");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  static Ort::Value view(std::string& bytes, const std::string& dtype,
                         const std::vector<int64_t>& shape) {
    static const std::map<std::string, ONNXTensorElementDataType> types{
        {"float32", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},
        {"float64", ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE},
        {"float16", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
        {"int64", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
        {"int32", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},
        {"int16", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16},
        {"int8", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8},
        {"uint64", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64},
        {"uint32", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32},
        {"uint16", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16},
        {"uint8", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
        {"bool", ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL},
    };
    static const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    return Ort::Value::CreateTensor(memory, bytes.data(), bytes.size(), shape.data(), shape.size(),
                                    types.at(dtype));
  }

  Session session_;
};
