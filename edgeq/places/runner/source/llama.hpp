// llama.cpp's library, opened at run time, and a language model in it, as edgeq's Python opens both.
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "llama_abi.hpp"
#include "problem.hpp"
#include "reply.hpp"
#include "request.hpp"

class Llama {
 public:
  /// `request.names`: a library with what llama.cpp's refers to, see python_names.cpp.
  Llama(const Request& request, int threads) : threads(threads) {
    const std::string &path = request.library, &names = request.names;
    // Read once, when the library loads. Waiting threads of OpenMP would spin on a shared core.
    setenv("OMP_WAIT_POLICY", "passive", 0);
    setenv("GGML_NO_BACKTRACE", "1", 0);
    if (!dlopen(names.c_str(), RTLD_NOW | RTLD_GLOBAL))
      throw Problem(3, names, std::string("cannot be opened: ") + dlerror(), "");
    library_ = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
    if (!library_) throw Problem(3, path, std::string("cannot be opened: ") + dlerror(), "");
    const char* field = unknown(call<llama_abi::ModelParams>("llama_model_default_params"));
    if (!field) field = unknown(call<llama_abi::ContextParams>("llama_context_default_params"));
    if (field)
      throw Problem(3, path, std::string("is not ") + llama_abi::kRuntime + ": " + field + " differs", "");
    call<void>("llama_log_set", &Llama::keep_errors, static_cast<void*>(nullptr));
    call<void>("llama_backend_init");
    system = call<const char*>("llama_print_system_info");
    while (!system.empty() && std::strchr(" |", system.back())) system.pop_back();
    system.erase(0, system.find_first_not_of(" |"));
  }

  template <typename Result, typename... Arguments>
  Result call(const char* name, Arguments... arguments) const {
    return find<Result, Arguments...>(name)(arguments...);
  }

  template <typename Result, typename... Arguments>
  auto find(const char* name) const -> Result (*)(Arguments...) {
    void* found = dlsym(library_, name);
    if (!found) throw Problem(3, name, "is not in this library of llama.cpp", "");
    return reinterpret_cast<Result (*)(Arguments...)>(found);
  }

  Problem refusal(const std::string& where, const std::string& what) const {
    const std::string said = errors().empty() ? "it gave no reason" : errors();
    return {2, where, std::string(llama_abi::kRuntime) + " " + what + ": " + said,
            "build or download the file again, or free memory"};
  }

  Reply conditions() const {
    return Reply::conditions(llama_abi::kRuntime, system, threads, false);
  }

  std::string system;
  const int threads;

 private:
  static std::string& errors() {
    static std::string text;
    return text;
  }

  static void keep_errors(int level, const char* text, void*) {
    constexpr int kError = 4, kMost = 2000;
    if (level == kError && errors().size() < kMost) errors() += text;
  }

  void* library_ = nullptr;
};

/// A model with at most one context, of which it is opened for the last position or for every one.
class LlamaModel {
 public:
  LlamaModel(const Llama& llama, const Request& request) : llama_(llama), request_(request) {
    auto params = llama.call<llama_abi::ModelParams>("llama_model_default_params");
    params.n_gpu_layers = 0;
    params.use_extra_bufts = false;
    model_ = llama.call<void*>("llama_model_load_from_file", request.model.c_str(), params);
    if (!model_) throw llama.refusal(request.model, "cannot open it");
    words_ = llama.call<void*>("llama_model_get_vocab", model_);
    vocabulary = llama.call<int32_t>("llama_vocab_n_tokens", words_);
    const int trained = llama.call<int32_t>("llama_model_n_ctx_train", model_);
    if (request.context > trained)
      throw Problem(2, request.model, std::to_string(request.context) +
                    " positions are requested, it was trained for " + std::to_string(trained),
                    "request fewer");
    decode_ = llama.find<int32_t, void*, llama_abi::Batch>("llama_decode");
    logits_ = llama.find<float*, void*, int32_t>("llama_get_logits_ith");
  }

  /// Token ids of a text, with those that the file puts around it.
  std::vector<int32_t> tokens(const std::string& text) const {
    std::vector<int32_t> ids(text.size() + 8);
    for (;;) {
      const int32_t count = llama_.call<int32_t>(
          "llama_tokenize", words_, text.data(), int32_t(text.size()), ids.data(),
          int32_t(ids.size()), true, true);
      ids.resize(size_t(std::abs(count)));
      if (count >= 0) return ids;
    }
  }

  /// Starts a text; the logits after its last token.
  const float* prefill(const std::vector<int32_t>& ids) {
    begin(false);
    return decode(ids.data(), ids.size());
  }

  const float* step(int32_t id) { return decode(&id, 1); }

  /// The logits of the last positions of a text, row after row; `piece` tokens are run at a time.
  std::vector<float> logits(const std::vector<int32_t>& ids, size_t last, size_t piece) {
    begin(true);
    piece = std::min<size_t>(piece, batch_);
    const size_t first = ids.size() - std::min(last, ids.size());
    std::vector<float> rows;
    for (size_t at = 0; at < ids.size(); at += piece) {
      const size_t end = std::min(at + piece, ids.size());
      const float* found = decode(ids.data() + at, end - at);
      const size_t skipped = std::min(end, std::max(at, first)) - at;
      rows.insert(rows.end(), found + skipped * size_t(vocabulary),
                  found + (end - at) * size_t(vocabulary));
    }
    return rows;
  }

  int32_t vocabulary = 0;

 private:
  static constexpr uint32_t kScored = 256, kPrompt = 512;  // tokens in one pass

  void begin(bool every) {
    if (context_ && every_ == every) {
      void* memory = llama_.call<void*>("llama_get_memory", context_);
      llama_.call<void>("llama_memory_clear", memory, false);
      return;
    }
    if (context_) llama_.call<void>("llama_free", context_);
    every_ = every;
    batch_ = std::min(every ? kScored : kPrompt, uint32_t(request_.context));
    auto params = llama_.call<llama_abi::ContextParams>("llama_context_default_params");
    params.n_ctx = uint32_t(request_.context);
    params.n_batch = params.n_ubatch = batch_;
    params.n_outputs_max = params.n_outputs_max_per_seq = every ? batch_ : 1;
    params.n_threads = params.n_threads_batch = llama_.threads;
    params.type_k = params.type_v = request_.cache_type;
    params.flash_attn_type = request_.flash;
    params.offload_kqv = params.op_offload = params.swa_full = false;
    context_ = llama_.call<void*>("llama_init_from_model", model_, params);
    if (!context_) throw llama_.refusal(request_.model, "cannot open a context");
  }

  /// Appends tokens; the logits of the last one, or of all of the last piece.
  const float* decode(const int32_t* ids, size_t count) {
    const float* found = nullptr;
    for (size_t at = 0; at < count; at += batch_) {
      const size_t size = std::min<size_t>(batch_, count - at);
      wanted_.assign(size, every_);
      wanted_.back() = every_ || at + size == count;
      llama_abi::Batch batch{};
      batch.n_tokens = int32_t(size);
      batch.token = const_cast<int32_t*>(ids + at);
      batch.logits = wanted_.data();
      if (const int32_t status = decode_(context_, batch))
        throw llama_.refusal(request_.model, "stopped with status " + std::to_string(status));
      if (wanted_.back()) found = logits_(context_, every_ ? 0 : int32_t(size) - 1);
    }
    if (!found) throw llama_.refusal(request_.model, "returns no logits");
    return found;
  }

  const Llama& llama_;
  const Request& request_;
  void *model_ = nullptr, *words_ = nullptr, *context_ = nullptr;
  bool every_ = false;
  uint32_t batch_ = 0;
  std::vector<int8_t> wanted_;
  int32_t (*decode_)(void*, llama_abi::Batch) = nullptr;
  float* (*logits_)(void*, int32_t) = nullptr;
};
