// A language model in GGUF, run by llama.cpp.
#pragma once

#include <llama.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "answer.hpp"

class Model {
 public:
  /// `context`: the most tokens of a text, with its continuation.
  explicit Model(const fs::path& folder, uint32_t context = 2048) {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    llama_backend_init();
    llama_model_params settings = llama_model_default_params();
    settings.n_gpu_layers = 0;
    settings.use_extra_bufts = false;  // weights stay mapped, as they were checked
    const std::string path = (folder / "model.gguf").string();
    model_.reset(llama_model_load_from_file(path.c_str(), settings));
    if (!model_) throw std::runtime_error(path + " cannot be opened by llama.cpp");
    vocabulary_ = llama_model_get_vocab(model_.get());
    llama_context_params params = llama_context_default_params();
    params.n_ctx = std::min(context, static_cast<uint32_t>(llama_model_n_ctx_train(model_.get())));
    params.n_batch = params.n_ubatch = params.n_ctx;
    params.n_threads = params.n_threads_batch = std::max(1u, std::thread::hardware_concurrency());
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    // The types that quality was checked with; llama.cpp reads quantized values only like this.
    const Json kv = read_json(folder / "bundle.json")["artifact"]["settings"]["kv"];
    if (kv.is_string()) {
      params.type_k = params.type_v = types_.at(kv);
      if (ggml_is_quantized(params.type_k))
        params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    }
    context_.reset(llama_init_from_model(model_.get(), params));
    if (!context_) throw std::runtime_error(path + ": llama.cpp cannot make a context");
  }

  /// With the tokens that the file puts around a text.
  std::vector<llama_token> tokens(const std::string& text) const {
    std::vector<llama_token> ids(text.size() + 8);
    const int count = llama_tokenize(vocabulary_, text.data(), static_cast<int>(text.size()),
                                     ids.data(), static_cast<int>(ids.size()), true, true);
    if (count < 0) throw std::runtime_error("the text is too long");
    ids.resize(count);
    return ids;
  }

  /// Greedy continuation of a prompt, until an end token or `most` tokens.
  std::string generate(const std::string& prompt, int most = 64) {
    std::string text;
    clear();
    for (std::vector<llama_token> ids = tokens(prompt); most-- > 0;) {
      const std::vector<float> scores = append(ids);
      const auto next = std::max_element(scores.begin(), scores.end()) - scores.begin();
      ids = {static_cast<llama_token>(next)};
      if (llama_vocab_is_eog(vocabulary_, ids[0])) break;
      char piece[256];
      const int size = llama_token_to_piece(vocabulary_, ids[0], piece, sizeof piece, 0, false);
      text.append(piece, std::max(0, size));
    }
    return text;
  }

  /// The scores of the token after the self-test's text.
  Answer answer(const Json& wanted) {
    std::vector<llama_token> ids = tokens(wanted.at("text"));
    clear();
    const std::vector<float> scores = append(ids);
    const auto size = static_cast<int64_t>(scores.size());
    return {std::vector<int64_t>(ids.begin(), ids.end()), {{"logits", {{size}, scores}}}, {}};
  }

 private:
  void clear() { llama_memory_clear(llama_get_memory(context_.get()), false); }

  /// Appends tokens to the text; returns the scores of the next token.
  std::vector<float> append(std::vector<llama_token>& ids) {
    if (llama_decode(context_.get(), llama_batch_get_one(ids.data(), static_cast<int>(ids.size()))))
      throw std::runtime_error("the text does not fit into the context");
    const float* scores = llama_get_logits_ith(context_.get(), -1);
    return {scores, scores + llama_vocab_n_tokens(vocabulary_)};
  }

  template <auto release>
  struct Releasing {
    template <typename T>
    void operator()(T* pointer) const { release(pointer); }
  };
  std::unique_ptr<llama_model, Releasing<llama_model_free>> model_;
  std::unique_ptr<llama_context, Releasing<llama_free>> context_;
  const llama_vocab* vocabulary_ = nullptr;
  const std::map<std::string, ggml_type> types_ = {{"f32", GGML_TYPE_F32},
                                                    {"f16", GGML_TYPE_F16},
                                                    {"q8_0", GGML_TYPE_Q8_0},
                                                    {"q4_0", GGML_TYPE_Q4_0}};
};
