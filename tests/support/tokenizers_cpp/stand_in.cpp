// The same Rust library as tokenizers-cpp wraps, by its Python package: $TOKENIZERS_PYTHON.
#include "tokenizers_c.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

static const char* script =
    "import sys, tokenizers; t = tokenizers.Tokenizer.from_file(sys.argv[1]); "
    "print(*t.encode(open(sys.argv[2], encoding='utf-8', newline='').read(), "
    "add_special_tokens=sys.argv[3] == '1').ids)";

static const char* back =
    "import sys, tokenizers; t = tokenizers.Tokenizer.from_file(sys.argv[1]); "
    "sys.stdout.buffer.write(t.decode([int(id) for id in sys.argv[3:]], "
    "skip_special_tokens=sys.argv[2] == '1').encode())";

static std::string saved(const char* data, size_t len) {
  char path[] = "/tmp/edgeq-tokenizers-XXXXXX";
  if (mkstemp(path) < 0) abort();
  std::ofstream(path, std::ios::binary).write(data, static_cast<std::streamsize>(len));
  return path;
}

TokenizerHandle tokenizers_new_from_str(const char* json, size_t len) {
  return new std::string(saved(json, len));
}

void tokenizers_encode(TokenizerHandle handle, const char* data, size_t len, int add_special_token,
                       TokenizerEncodeResult* result) {
  const std::string text = saved(data, len), &tokenizer = *static_cast<std::string*>(handle);
  const std::string command = std::string(getenv("TOKENIZERS_PYTHON")) + " -c \"" + script + "\" " +
                              tokenizer + " " + text + (add_special_token ? " 1" : " 0");
  FILE* output = popen(command.c_str(), "r");
  std::vector<int> ids;
  for (int id; fscanf(output, "%d", &id) == 1;) ids.push_back(id);
  if (pclose(output) != 0) abort();
  remove(text.c_str());
  result->len = ids.size();
  result->token_ids = new int[ids.size()];
  std::copy(ids.begin(), ids.end(), result->token_ids);
}

static std::string decoded;

void tokenizers_decode(TokenizerHandle handle, const uint32_t* data, size_t len,
                       int skip_special_token) {
  std::string command = std::string(getenv("TOKENIZERS_PYTHON")) + " -c \"" + back + "\" " +
                        *static_cast<std::string*>(handle) + (skip_special_token ? " 1" : " 0");
  for (size_t i = 0; i < len; ++i) command += " " + std::to_string(data[i]);
  FILE* output = popen(command.c_str(), "r");
  decoded.clear();
  for (int letter; (letter = fgetc(output)) != EOF;) decoded.push_back(static_cast<char>(letter));
  if (pclose(output) != 0) abort();
}

void tokenizers_get_decode_str(TokenizerHandle, const char** data, size_t* len) {
  *data = decoded.data();
  *len = decoded.size();
}

void tokenizers_free_encode_results(TokenizerEncodeResult* results, size_t num_seqs) {
  for (size_t i = 0; i < num_seqs; ++i) delete[] results[i].token_ids;
}

void tokenizers_free(TokenizerHandle handle) {
  auto* path = static_cast<std::string*>(handle);
  remove(path->c_str());
  delete path;
}
