// Files of consecutive arrays in numpy's .npy format, version 1.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "problem.hpp"

/// numpy's and onnxruntime's names of one type.
struct Dtype {
  const char* numpy;
  int onnx;
  size_t bytes;
};
constexpr Dtype dtypes[] = {{"<f4", 1, 4}, {"|u1", 2, 1}, {"|i1", 3, 1},  {"<u2", 4, 2},
                            {"<i2", 5, 2}, {"<i4", 6, 4}, {"<i8", 7, 8},  {"|b1", 9, 1},
                            {"<f2", 10, 2}, {"<f8", 11, 8}, {"<u4", 12, 4}, {"<u8", 13, 8}};

struct Array {
  const Dtype* dtype = nullptr;
  std::vector<int64_t> shape;
  std::vector<char> bytes;
};

inline size_t count_of(const std::vector<int64_t>& shape) {
  size_t count = 1;
  for (const int64_t size : shape) count *= static_cast<size_t>(size);
  return count;
}

/// The next array of a file; false at its end.
inline bool read_array(std::istream& file, const std::string& path, Array& array) {
  const auto broken = [&] { return Problem(2, path, "is not a file of arrays", "check again"); };
  char magic[10];
  if (!file.read(magic, sizeof magic)) return false;
  if (std::memcmp(magic, "\x93NUMPY\x01\x00", 8) != 0) throw broken();
  const auto low = static_cast<unsigned char>(magic[8]), high = static_cast<unsigned char>(magic[9]);
  std::string header(low + 256 * high, ' ');
  file.read(header.data(), static_cast<std::streamsize>(header.size()));
  array.dtype = nullptr;
  for (const Dtype& each : dtypes)
    if (header.find(std::string("'descr': '") + each.numpy + "'") != header.npos)
      array.dtype = &each;
  const size_t shape = header.find("'shape': (");
  if (!array.dtype || shape == header.npos || header.find("order': False") == header.npos)
    throw broken();
  array.shape.clear();
  for (const char* at = header.c_str() + shape + 10; *at && *at != ')';) {
    char* end = nullptr;
    const long long size = std::strtoll(at, &end, 10);
    if (end == at) ++at;  // a comma or a space
    else array.shape.push_back(size), at = end;
  }
  array.bytes.resize(count_of(array.shape) * array.dtype->bytes);
  if (!file.read(array.bytes.data(), static_cast<std::streamsize>(array.bytes.size())))
    throw broken();
  return true;
}

/// Token ids, int32, the only array of a file.
inline std::vector<int32_t> read_ids(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Array ids;
  if (!read_array(file, path, ids)) throw Problem(2, path, "has no tokens", "check again");
  std::vector<int32_t> tokens(ids.bytes.size() / sizeof(int32_t));
  std::memcpy(tokens.data(), ids.bytes.data(), ids.bytes.size());
  return tokens;
}

/// The same bytes as numpy.save.
inline void write_array(std::ostream& file, const Dtype& dtype, const std::vector<int64_t>& shape,
                        const void* bytes) {
  std::string sizes;
  for (size_t i = 0; i < shape.size(); ++i)
    sizes += (i ? ", " : "") + std::to_string(shape[i]);
  if (shape.size() == 1) sizes += ",";
  std::string header = std::string("{'descr': '") + dtype.numpy +
                       "', 'fortran_order': False, 'shape': (" + sizes + "), }";
  // numpy leaves room for the first size to grow.
  if (!shape.empty()) header.append(21 - std::to_string(shape[0]).size(), ' ');
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  const char start[] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, static_cast<char>(header.size() % 256),
                        static_cast<char>(header.size() / 256)};
  file.write(start, sizeof start) << header;
  file.write(static_cast<const char*>(bytes),
             static_cast<std::streamsize>(count_of(shape) * dtype.bytes));
}
