// Texts to token ids with tokenizers-cpp, whose C functions wrap Hugging Face's Rust library.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef WITH_TOKENIZERS
#include <tokenizers_c.h>

class Tokenizer {
 public:
  static constexpr bool available = true;

  explicit Tokenizer(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    const std::string json = content.str();
    handle_ = tokenizers_new_from_str(json.data(), json.size());
    if (handle_ == nullptr) throw std::runtime_error(path.string() + " cannot be read");
  }
  ~Tokenizer() { tokenizers_free(handle_); }
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// With special tokens. The bundle's file cuts long texts as the check did.
  std::vector<int64_t> encode(const std::string& text) const {
    TokenizerEncodeResult found{};
    tokenizers_encode(handle_, text.data(), text.size(), /*add_special_token=*/1, &found);
    std::vector<int64_t> ids(found.token_ids, found.token_ids + found.len);
    tokenizers_free_encode_results(&found, 1);
    return ids;
  }

  /// Without special tokens.
  std::string decode(const std::vector<int64_t>& tokens) const {
    const std::vector<uint32_t> ids(tokens.begin(), tokens.end());
    tokenizers_decode(handle_, ids.data(), ids.size(), /*skip_special_token=*/1);
    const char* text = nullptr;
    size_t size = 0;
    tokenizers_get_decode_str(handle_, &text, &size);
    return {text, size};
  }

 private:
  TokenizerHandle handle_;
};
#else

/// Stands in until the program is built with tokenizers-cpp: token ids only.
class Tokenizer {
 public:
  static constexpr bool available = false;

  explicit Tokenizer(const std::filesystem::path&) {}

  std::vector<int64_t> encode(const std::string&) const { throw absent(); }
  std::string decode(const std::vector<int64_t>&) const { throw absent(); }

 private:
  static std::runtime_error absent() {
    return std::runtime_error(
        "built without a tokenizer, so it takes no text: "
        "git clone --recursive https://github.com/mlc-ai/tokenizers-cpp && "
        "cmake -B build -DTOKENIZERS=tokenizers-cpp && cmake --build build");
  }
};
#endif
