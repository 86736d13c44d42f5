// edgeq-runner REQUEST: one measuring pass of an ONNX or GGUF model without Python. The reply, in JSON on
// standard output, is that of edgeq's own worker; exit status 2 or 3 with a list of problems.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>

#include "llama.hpp"
#include "onnx.hpp"
#include "onnx_text.hpp"
#include "reply.hpp"
#include "request.hpp"
#include "statistics.hpp"
#include "text_pass.hpp"
#include "watch.hpp"

static std::vector<const char*> pointers(const std::vector<std::string>& names) {
  std::vector<const char*> result;
  for (const std::string& name : names) result.push_back(name.c_str());
  return result;
}

/// A request with its library open. The model is opened by `open`.
class Pass {
 public:
  explicit Pass(const Request& request)
      : request_(request),
        onnx_(request, request.thread_count()),
        inputs_(pointers(request.inputs)),
        outputs_(pointers(request.outputs_names)) {}

  Reply latency() {
    const double start = seconds_now();
    const auto session = onnx_.open();
    const double loaded = seconds_now() - start;
    const auto feed = first_feed();
    const auto run = [&] { feed->run(*session, inputs_, outputs_); };
    std::vector<double> warmup;
    for (int i = 0; i < kWarmup; ++i) warmup.push_back(timed(run));
    std::sort(warmup.begin(), warmup.end());
    const bool quick = request_.effort == "quick";
    const double typical = warmup[kWarmup / 2];
    const int stride = quick || typical <= 0 ? 1 : std::max(1, int(std::ceil(60.0 / typical / 10000)));
    std::vector<double> seconds;
    const auto take = [&] {
      for (int i = 1; i < stride; ++i) run();
      seconds.push_back(timed(run));
    };
    const Bystanders bystanders;
    const double begin = seconds_now();
    const auto is_enough = [&] {
      const double elapsed = seconds_now() - begin;
      return quick ? seconds.size() >= 128 || (!seconds.empty() && elapsed >= 10)
                   : seconds.size() >= 1024 && elapsed >= 60;
    };
    while (!is_enough()) take();
    const auto looks = statistics::settle(seconds, request_.limits, take, request_.effort, seconds_now);
    Reply reply = onnx_.conditions();
    reply.number("load_seconds", loaded);
    reply.numbers("seconds", seconds);
    reply.number("runs", double(seconds.size()) * stride);
    reply.numbers("looks", {looks.begin(), looks.end()});
    reply.bystanders(bystanders);
    return reply;
  }

  Reply memory() {
    const Memory baseline = Memory::read();
    Peak peak;
    const auto session = onnx_.open();
    const Memory loaded = Memory::read();
    const auto feed = first_feed();
    for (int i = 0; i < request_.runs; ++i) feed->run(*session, inputs_, outputs_);
    const Memory ran = Memory::read();
    peak.stop();
    Reply reply = onnx_.conditions();
    reply.memory("baseline", baseline);
    reply.memory("loaded", loaded);
    reply.memory("ran", ran);
    reply.memory("with_tokenizer", ran);  // a tokenizer is the app's own: there is none here
    reply.number("high_water_bytes", double(peak.high_water));
    reply.number("anonymous_peak_bytes", double(peak.anonymous));
    reply.number("runs", request_.runs);
    return reply;
  }

  Reply quality() {
    const auto session = onnx_.open();
    std::ofstream file(request_.outputs, std::ios::binary);
    std::ifstream feeds(request_.feeds, std::ios::binary);
    while (const auto feed = next_feed(feeds)) {
      feed->run(*session, inputs_, outputs_);
      feed->write(file);
    }
    if (!file.flush()) throw Problem(3, request_.outputs, "cannot be written", "free some space");
    return onnx_.conditions();
  }

  /// Writes a copy with weights packed for this CPU, if it gives the same bits.
  Reply prepare() {
    Settings settings = onnx_.entries();
    const std::string data = request_.copy.substr(request_.copy.rfind('/') + 1) + ".data";
    settings["session.save_external_prepacked_constant_initializers"] = "1";
    settings["session.optimized_model_external_initializers_file_name"] = data;
    settings["session.optimized_model_external_initializers_min_size_in_bytes"] = "1024";
    { const Session saved(onnx_.runtime, request_.model, onnx_.threads, settings, false, request_.copy); }
    onnx_.runtime.register_arena();
    const auto answers = [&](const std::string& model, bool optimized) {
      const Session session(onnx_.runtime, model, 1, onnx_.entries(), optimized);
      std::ostringstream bytes;
      const auto feed = first_feed();
      feed->run(session, inputs_, outputs_);
      feed->write(bytes);
      return bytes.str();
    };
    const bool same = answers(request_.model, false) == answers(request_.copy, true);
    Reply reply;
    reply.raw("prepared", same ? "true" : "false");
    return reply;
  }

 private:
  static constexpr int kWarmup = 5;

  template <typename Run>
  static double timed(const Run& run) {
    const double start = seconds_now();
    run();
    return seconds_now() - start;
  }

  std::unique_ptr<Feed> next_feed(std::istream& file) {
    std::vector<Array> arrays(inputs_.size());
    for (size_t i = 0; i < arrays.size(); ++i)
      if (!read_array(file, request_.feeds, arrays[i])) {
        if (i == 0) return nullptr;
        throw Problem(2, request_.feeds, "ends within a sample", "check again");
      }
    return std::make_unique<Feed>(onnx_.runtime, std::move(arrays));
  }

  std::unique_ptr<Feed> first_feed() {
    std::ifstream file(request_.feeds, std::ios::binary);
    auto feed = next_feed(file);
    if (!feed) throw Problem(2, request_.feeds, "has no sample", "check again");
    return feed;
  }

  const Request& request_;
  Onnx onnx_;
  std::vector<const char*> inputs_, outputs_;
};

template <typename AnyPass>
static std::optional<Reply> measured(AnyPass& pass, const std::string& work) {
  if (work == "latency") return pass.latency();
  if (work == "memory") return pass.memory();
  if (work == "quality") return pass.quality();
  return std::nullopt;
}

static Reply perform(const Request& request) {
  std::optional<Reply> reply;
  if (request.work != "prepare" && request.vocabulary) {
    TextPass<Onnx, OnnxText> pass(request);
    reply = measured(pass, request.work);
  } else if (request.work != "prepare" && request.context) {
    TextPass<Llama, LlamaModel> pass(request);
    reply = measured(pass, request.work);
  } else {
    Pass pass(request);
    reply = request.work == "prepare" ? pass.prepare() : measured(pass, request.work);
  }
  if (reply) return *reply;
  throw Problem(2, "work", "'" + request.work + "' is not a pass of this runner",
                "use the edgeq that built this runner");
}

int main(int count, char** arguments) try {
  if (count != 2) {
    std::fputs("usage: edgeq-runner REQUEST\n", stderr);
    return 2;
  }
  const Request request = read_request(arguments[1]);
  alarm(request.seconds);
  std::cout << perform(request).json() << "\n";
  return 0;
} catch (const Problem& problem) {
  Reply reply;
  reply.text("where", problem.where);
  reply.text("what", problem.what());
  reply.text("remedy", problem.remedy);
  std::cout << "[" << reply.json() << "]\n";
  return problem.status;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
