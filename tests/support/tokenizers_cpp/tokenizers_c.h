// The functions of tokenizers-cpp that the C++ starter calls, for a build without Rust.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
using TokenizerHandle = void*;
struct TokenizerEncodeResult {
  int* token_ids;
  size_t len;
};
TokenizerHandle tokenizers_new_from_str(const char* json, size_t len);
void tokenizers_encode(TokenizerHandle handle, const char* data, size_t len, int add_special_token,
                       TokenizerEncodeResult* result);
void tokenizers_decode(TokenizerHandle handle, const uint32_t* data, size_t len,
                       int skip_special_token);
void tokenizers_get_decode_str(TokenizerHandle handle, const char** data, size_t* len);
void tokenizers_free_encode_results(TokenizerEncodeResult* results, size_t num_seqs);
void tokenizers_free(TokenizerHandle handle);
}
