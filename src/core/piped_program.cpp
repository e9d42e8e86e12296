#include "core/piped_program.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/pipe_signal_block.h"

namespace ospnext {
namespace {

// One end of a pipe.
class PipeEnd {
 public:
  PipeEnd() = default;
  explicit PipeEnd(int file) : file_(file) {}
  PipeEnd(PipeEnd&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  PipeEnd& operator=(PipeEnd&& other) noexcept {
    std::swap(file_, other.file_);
    return *this;
  }
  ~PipeEnd() { close(); }

  int file() const { return file_; }
  bool is_open() const { return file_ >= 0; }
  void close() {
    if (file_ >= 0) {
      ::close(std::exchange(file_, -1));
    }
  }

 private:
  int file_ = -1;
};

struct Pipe {
  PipeEnd read, write;

  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      throw RunError(std::string("cannot start a program: ") + std::strerror(errno));
    }
    read = PipeEnd(ends[0]);
    write = PipeEnd(ends[1]);
  }
};

// A running command, the first process of a group of its own.
class Child {
 public:
  Child(const std::string& command, const sigset_t& signals) {
    const char* const words[] = {"sh", "-c", command.c_str(), nullptr};
    Pipe in, out;
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) {  // after fork() only async-signal-safe calls: the parent may have threads
      ::setpgid(0, 0);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) {
        ::_exit(1);
      }
      ::sigprocmask(SIG_SETMASK, &signals, nullptr);
      ::dup2(in.read.file(), STDIN_FILENO);
      ::dup2(out.write.file(), STDOUT_FILENO);
      ::execv("/bin/sh", const_cast<char* const*>(words));
      ::_exit(127);
    }
    if (pid_ < 0) {
      throw RunError(std::string("cannot start a program: ") + std::strerror(errno));
    }
    ::setpgid(pid_, pid_);  // also here: the group must be there before it is killed
    input = std::move(in.write);
    output = std::move(out.read);
    ::fcntl(input.file(), F_SETFL, O_NONBLOCK);
    ::fcntl(output.file(), F_SETFL, O_NONBLOCK);
  }
  ~Child() { end(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Whether the command has ended. Its number stays taken until end().
  bool has_ended() const {
    siginfo_t found = {};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &found, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           found.si_pid == pid_;
  }
  // Kills the group. Returns the exit status of the command, or -signal.
  int end() {
    if (pid_ > 0) {
      ::kill(-pid_, SIGKILL);
      int status = 0;
      while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
      }
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
      pid_ = 0;
    }
    return status_;
  }

  PipeEnd input, output;

 private:
  pid_t pid_ = 0;
  int status_ = 0;
};

// Writes what fits now. Closes the end when all is written, or when nobody reads.
void pass_input(PipeEnd& end, std::string_view& rest) {
  while (!rest.empty()) {
    const ssize_t count = ::write(end.file(), rest.data(), rest.size());
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      if (errno != EAGAIN) {
        end.close();
      }
      return;
    }
    rest.remove_prefix(static_cast<size_t>(count));
  }
  end.close();
}

// Reads what is there now, up to one byte more than `most` in all. Closes the end after the last.
void take_output(PipeEnd& end, std::string& output, size_t most) {
  char buffer[1 << 16];
  while (end.is_open() && output.size() <= most) {
    const ssize_t count =
        ::read(end.file(), buffer, std::min(sizeof buffer, most + 1 - output.size()));
    if (count > 0) {
      output.append(buffer, static_cast<size_t>(count));
    } else if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
      end.close();
    } else if (errno == EAGAIN) {
      return;
    }
  }
}

void wait_for_pipes(const Child& child, int milliseconds) {
  pollfd ends[] = {{child.input.file(), POLLOUT, 0}, {child.output.file(), POLLIN, 0}};
  ::poll(ends, 2, milliseconds);  // a closed end is -1, which it passes over
}

}  // namespace

std::string run_piped(const PipedProgram& program, std::string_view input,
                      const CancellationToken& cancel) {
  using Clock = std::chrono::steady_clock;
  constexpr int kPoll = 20;  // milliseconds
  const auto limit = Clock::now() + std::chrono::duration<double>(program.seconds);
  const auto fail = [&](const std::string& what) { throw RunError(program.command + ": " + what); };
  const PipeSignalBlock block;
  Child child(program.command, block.before());
  std::string output;
  for (bool ended = false; !ended;) {
    cancel.check();
    if (Clock::now() >= limit) {
      fail("found no answer after " + nlohmann::json(program.seconds).dump() + " seconds");
    }
    wait_for_pipes(child, kPoll);
    ended = child.has_ended();  // before the output is read: then nothing of it is missed
    if (child.input.is_open()) {
      pass_input(child.input, input);
    }
    take_output(child.output, output, program.most_output);
    if (output.size() > program.most_output) {
      fail("found more than " + std::to_string(program.most_output) + " bytes of output");
    }
  }
  const int status = child.end();
  if (status != 0) {
    fail(status > 0 ? "found exit status " + std::to_string(status) + ", expected 0"
                    : "was ended by signal " + std::to_string(-status));
  }
  return output;
}

}  // namespace ospnext
