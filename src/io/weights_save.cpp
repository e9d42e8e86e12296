// Writing of safetensors files.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/weights.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using TensorList = std::map<std::string, at::Tensor>;

// A file that appears under its name only when it is complete.
class AtomicFile {
 public:
  explicit AtomicFile(const fs::path& target)
      : target_(target), temporary_(target.string() + ".XXXXXX") {
    descriptor_ = ::mkstemp(temporary_.data());
    if (descriptor_ < 0) {
      const std::string reason = std::strerror(errno);
      temporary_.clear();
      throw InputError(target_.string() + ": cannot write here: " + reason);
    }
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() {
    close();
    if (!temporary_.empty()) {
      ::unlink(temporary_.c_str());
    }
  }

  void write(const void* data, size_t size) {
    const char* rest = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t written = ::write(descriptor_, rest, size);
      if (written < 0 && errno != EINTR) {
        fail("write");
      }
      if (written > 0) {
        rest += written;
        size -= static_cast<size_t>(written);
      }
    }
  }

  void commit() {
    const mode_t mask = ::umask(0);
    ::umask(mask);
    if (::fchmod(descriptor_, 0666 & ~mask) != 0 || ::fsync(descriptor_) != 0) {
      fail("finish");
    }
    close();
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
      fail("rename");
    }
    temporary_.clear();
  }

 private:
  [[noreturn]] void fail(const char* action) const {
    throw RunError(target_.string() + ": cannot " + action + " the file: " + std::strerror(errno));
  }
  void close() {
    if (descriptor_ >= 0) {
      ::close(descriptor_);
      descriptor_ = -1;
    }
  }

  fs::path target_;
  std::string temporary_;
  int descriptor_ = -1;
};

// The header with its length in front, padded with spaces to a multiple of 8 bytes.
std::string header_text(const TensorList& tensors,
                        const std::map<std::string, std::string>& metadata, const fs::path& file) {
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  header["__metadata__"]["format"] = "pt";
  int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const DType dtype =
        file_dtype(tensor.scalar_type(), file.string() + ": tensor \"" + name + "\"");
    const int64_t end = offset + tensor.numel() * static_cast<int64_t>(item_size(dtype));
    header[name] = {{"dtype", dtype_name(dtype)},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length;
  for (uint64_t rest = text.size(), i = 0; i < 8; ++i, rest >>= 8) {
    length += static_cast<char>(rest & 0xff);
  }
  return length + text;
}

}  // namespace

void save_safetensors(const fs::path& file, const TensorList& tensors,
                      const std::map<std::string, std::string>& metadata) {
  const std::string header = header_text(tensors, metadata, file);
  AtomicFile out(file);
  out.write(header.data(), header.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor data = tensor.detach().cpu().contiguous();
    out.write(data.data_ptr(), data.nbytes());
  }
  out.commit();
}

void save_sharded_safetensors(const fs::path& directory, const std::string& stem,
                              const TensorList& tensors, int64_t max_shard_bytes) {
  std::vector<TensorList> shards(1);
  int64_t shard_bytes = 0;
  int64_t total_bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    const auto bytes = static_cast<int64_t>(tensor.nbytes());
    if (shard_bytes > 0 && shard_bytes + bytes > max_shard_bytes) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shards.back()[name] = tensor;
    shard_bytes += bytes;
    total_bytes += bytes;
  }
  const std::string single = stem + ".safetensors";
  const std::string index_name = single + ".index.json";
  std::error_code ignored;
  if (shards.size() == 1) {
    save_safetensors(directory / single, tensors);
    fs::remove(directory / index_name, ignored);  // of an earlier, larger checkpoint
    return;
  }
  nlohmann::json index;
  index["metadata"]["total_size"] = total_bytes;
  for (size_t i = 0; i < shards.size(); ++i) {
    char number[32];
    std::snprintf(number, sizeof(number), "-%05zu-of-%05zu", i + 1, shards.size());
    const std::string name = stem + number + ".safetensors";
    save_safetensors(directory / name, shards[i]);
    for (const auto& entry : shards[i]) {
      index["weight_map"][entry.first] = name;
    }
  }
  const std::string text = index.dump(2) + "\n";
  AtomicFile out(directory / index_name);
  out.write(text.data(), text.size());
  out.commit();
  fs::remove(directory / single, ignored);  // of an earlier, smaller checkpoint
}

}  // namespace ospnext
