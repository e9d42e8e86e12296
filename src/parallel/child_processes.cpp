#include "parallel/child_processes.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>

#include "core/error.h"

namespace ospnext {
namespace {

struct Pipe {
  int read = -1, write = -1;
};

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    throw RunError(std::string("cannot start a process: ") + std::strerror(errno));
  }
  return {ends[0], ends[1]};
}

void write_all(int file, const std::string& text) {
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::write(file, text.data() + written, text.size() - written);
    if (count < 0 && errno != EINTR) {
      return;  // nobody reads it any more
    }
    written += count > 0 ? static_cast<size_t>(count) : 0;
  }
}

// "NAME=value" strings: `variables` first, then the other variables of this process.
std::vector<std::string> environment_with(const std::map<std::string, std::string>& variables) {
  std::vector<std::string> words;
  for (const auto& [name, value] : variables) {
    words.push_back(std::string(name).append("=").append(value));
  }
  for (char** word = environ; *word != nullptr; ++word) {
    const std::string text = *word;
    if (!variables.contains(text.substr(0, text.find('=')))) {
      words.push_back(text);
    }
  }
  return words;
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) {
    pointers.push_back(word.data());
  }
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

ChildProcesses::~ChildProcesses() {
  signal_all(SIGKILL);
  for (const Child& child : children_) {
    if (child.runs) {
      ::waitpid(child.pid, nullptr, 0);
    }
    for (const int file : {child.out.from, child.err.from}) {
      if (file >= 0) {
        ::close(file);
      }
    }
  }
}

void ChildProcesses::start(const std::vector<std::string>& arguments,
                           const std::map<std::string, std::string>& variables) {
  std::vector<std::string> words = arguments, environment = environment_with(variables);
  words.insert(words.begin(), "ospnext");
  const std::vector<char*> word_pointers = pointers_to(words);
  const std::vector<char*> environment_pointers = pointers_to(environment);
  const Pipe out = make_pipe(), err = make_pipe();
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {     // after fork() only async-signal-safe calls: the parent may have threads
    ::setpgid(0, 0);  // the terminal's interrupt reaches only the parent, which passes it on
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) {
      ::_exit(1);
    }
    ::dup2(out.write, STDOUT_FILENO);
    ::dup2(err.write, STDERR_FILENO);
    ::execve("/proc/self/exe", word_pointers.data(), environment_pointers.data());
    ::_exit(127);
  }
  ::close(out.write);
  ::close(err.write);
  if (pid < 0) {
    ::close(out.read);
    ::close(err.read);
    throw RunError(std::string("cannot start a process: ") + std::strerror(errno));
  }
  children_.push_back({pid, true, {out.read, STDOUT_FILENO, {}}, {err.read, STDERR_FILENO, {}}});
}

ChildEnd ChildProcesses::wait(const CancellationToken& cancel, std::chrono::seconds grace) {
  using Clock = std::chrono::steady_clock;
  constexpr int kPoll = 100;  // milliseconds
  constexpr std::chrono::seconds kGraceAfterFailure{10};
  std::optional<ChildEnd> bad;
  std::optional<Clock::time_point> kill_at;
  const auto stop = [&](int signal, std::chrono::seconds after) {
    if (!kill_at) {
      signal_all(signal);
      signal_all(SIGCONT);  // a stopped process cannot react to a signal
      kill_at = Clock::now() + after;
    }
  };
  while (any_runs()) {
    pass_lines(kPoll);
    for (const ChildEnd& end : reap()) {
      if (end.status != 0 && !bad) {
        bad = end;
      }
    }
    if (bad) {
      stop(SIGTERM, kGraceAfterFailure);
    } else if (cancel.cancelled()) {
      stop(SIGINT, grace);
    }
    if (kill_at && Clock::now() > *kill_at) {
      signal_all(SIGKILL);
    }
  }
  while (pass_lines(0)) {
  }
  return bad.value_or(ChildEnd{});
}

bool ChildProcesses::pass_lines(int milliseconds) {
  std::vector<pollfd> waiting;
  for (const Child& child : children_) {
    for (const int file : {child.out.from, child.err.from}) {
      waiting.push_back({file, POLLIN, 0});  // poll() skips negative descriptors
    }
  }
  const bool any = ::poll(waiting.data(), waiting.size(), milliseconds) > 0;
  for (size_t i = 0; i < children_.size(); ++i) {
    if (waiting[2 * i].revents != 0) {
      pass_lines_of(i, children_[i].out);
    }
    if (waiting[2 * i + 1].revents != 0) {
      pass_lines_of(i, children_[i].err);
    }
  }
  return any;
}

void ChildProcesses::pass_lines_of(size_t child, Stream& stream) {
  constexpr size_t kChunk = 65536;
  std::string chunk(kChunk, '\0');
  const ssize_t count = ::read(stream.from, chunk.data(), chunk.size());
  if (count < 0 && errno == EINTR) {
    return;
  }
  stream.line.append(chunk, 0, count > 0 ? static_cast<size_t>(count) : 0);
  if (count <= 0) {
    ::close(stream.from);
    stream.from = -1;
    stream.line += stream.line.empty() ? "" : "\n";
  }
  for (size_t end = stream.line.find('\n'); end != std::string::npos;
       end = stream.line.find('\n')) {
    std::string line = "[";
    line.append(std::to_string(child)).append("] ").append(stream.line, 0, end + 1);
    write_all(stream.to, line);
    stream.line.erase(0, end + 1);
  }
}

std::vector<ChildEnd> ChildProcesses::reap() {
  std::vector<ChildEnd> ends;
  for (size_t i = 0; i < children_.size(); ++i) {
    int status = 0;
    if (children_[i].runs && ::waitpid(children_[i].pid, &status, WNOHANG) > 0) {
      children_[i].runs = false;
      ends.push_back(
          {static_cast<int>(i), WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status)});
    }
  }
  return ends;
}

void ChildProcesses::signal_all(int signal) const {
  for (const Child& child : children_) {
    if (child.runs) {
      ::kill(child.pid, signal);
    }
  }
}

bool ChildProcesses::any_runs() const {
  for (const Child& child : children_) {
    if (child.runs) {
      return true;
    }
  }
  return false;
}

}  // namespace ospnext
