// Numbers about a server, as Prometheus reads them.
#pragma once

#include <map>
#include <mutex>
#include <string>

namespace ospnext {

// Counters and gauges of one process. Methods may be called by several threads.
class Metrics {
 public:
  // Adds to a counter, of those in metric_helps(). `labels` is what stands in the braces:
  // `stage="denoise"`, or "".
  void add(const std::string& name, const std::string& labels, double value = 1);
  // Sets a gauge.
  void set(const std::string& name, const std::string& labels, double value);

  // All of them in the text format 0.0.4 of Prometheus.
  std::string text() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, double>> values_;  // name -> labels -> value
};

// Help and kind ("counter" or "gauge") of every metric there is.
struct MetricHelp {
  const char* kind;
  const char* help;
};
const std::map<std::string, MetricHelp>& metric_helps();

}  // namespace ospnext
