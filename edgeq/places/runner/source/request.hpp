// The request: a text file with one `key value` on each line, written by edgeq.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "problem.hpp"
#include "watch.hpp"

struct Limit {
  double q, seconds;
};

/// Keys, values or another state: the graph's input and output, and the shape of both.
struct Cache {
  std::string past, present;
  std::vector<int64_t> shape;
};

struct Request {
  std::string work, library, model, probe, feeds, outputs, copy, effort = "quick";
  bool prepared = false;
  int threads = 0, runs = 0;
  unsigned seconds = 0;  // after which a signal ends this process; 0 for no limit
  std::vector<std::string> inputs, outputs_names;
  std::map<std::string, std::map<std::string, std::string>> entries;  // by class of CPU, "any" first
  std::vector<Limit> limits, rest_limits;  // of runs or first tokens, and of the later tokens of texts
  // Of language models:
  std::string names, text, ids;
  int context = 0, prompt = 0, generate = 0, cache_type = 0, flash = 0, last = 0, piece = 256;
  int vocabulary = 0;  // of one for onnxruntime
  std::vector<Cache> caches;

  int thread_count() const { return threads ? threads : default_threads(); }
};

inline Request read_request(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Problem(2, path, "cannot be read", "name the request's file");
  Request request;
  for (std::string line; std::getline(file, line);) {
    const size_t space = line.find(' ');
    const std::string key = line.substr(0, space);
    const std::string value = space == line.npos ? "" : line.substr(space + 1);
    std::istringstream words(value);
    if (key == "work") request.work = value;
    else if (key == "library") request.library = value;
    else if (key == "model") request.model = value;
    else if (key == "probe") request.probe = value;
    else if (key == "feeds") request.feeds = value;
    else if (key == "outputs") request.outputs = value;
    else if (key == "copy") request.copy = value;
    else if (key == "effort") request.effort = value;
    else if (key == "prepared") request.prepared = value == "1";
    else if (key == "threads") words >> request.threads;
    else if (key == "runs") words >> request.runs;
    else if (key == "names") request.names = value;
    else if (key == "text") request.text = value;
    else if (key == "ids") request.ids = value;
    else if (key == "vocabulary") words >> request.vocabulary;
    else if (key == "context") words >> request.context;
    else if (key == "prompt") words >> request.prompt;
    else if (key == "generate") words >> request.generate;
    else if (key == "cache_type") words >> request.cache_type;
    else if (key == "flash") words >> request.flash;
    else if (key == "last") words >> request.last;
    else if (key == "piece") words >> request.piece;
    else if (key == "seconds") words >> request.seconds;
    else if (key == "input") request.inputs.push_back(value);
    else if (key == "output") request.outputs_names.push_back(value);
    else if (key == "entry") {
      std::string cpu, name, setting;
      words >> cpu >> name >> setting;
      request.entries[cpu][name] = setting;
    } else if (key == "limit" || key == "rest_limit") {
      Limit limit{};
      words >> limit.q >> limit.seconds;
      (key == "limit" ? request.limits : request.rest_limits).push_back(limit);
    } else if (key == "cache") {
      Cache cache;
      words >> cache.past >> cache.present;
      for (int64_t size; words >> size;) cache.shape.push_back(size);
      request.caches.push_back(cache);
    } else throw Problem(2, path, "has an unknown line: " + line, "use the edgeq that built this runner");
  }
  return request;
}
