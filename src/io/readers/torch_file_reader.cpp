// Reads the entries of a PyTorch zip file and names the tensors in its containers.
#include "io/readers/torch_file_reader.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "io/readers/unpickler.h"
#include "io/readers/zip_reader.h"

namespace ospnext {
namespace {

constexpr uint64_t kMaxPickleBytes = uint64_t{16} << 20;
constexpr int kMaxDepth = 16;
constexpr size_t kMaxVisits = 200'000;      // a 14B model with an optimizer has about 30,000
constexpr size_t kMaxNameBytes = 32 << 20;  // total of all paths to values

// Collects tensors and names each by its path of keys.
class Flattener {
 public:
  explicit Flattener(const std::string& origin) : origin_(origin) {}

  void visit(const PickleValue& value, const std::string& name, int depth) {
    name_bytes_ += name.size();
    if (depth > kMaxDepth || ++visits_ > kMaxVisits || name_bytes_ > kMaxNameBytes) {
      throw InputError(origin_ + ": the containers are nested too deeply or name too much");
    }
    if (const auto* tensor = std::get_if<TensorRecord>(&value.content)) {
      add(name.empty() ? "tensor" : name, *tensor);
    } else if (const auto* dict = std::get_if<PickleDict>(&value.content)) {
      for (const auto& [key, item] : dict->items) {
        visit(*item, join(name, key_text(*key)), depth + 1);
      }
    } else if (const auto* list = std::get_if<PickleList>(&value.content)) {
      for (size_t i = 0; i < list->items.size(); ++i) {
        visit(*list->items[i], join(name, std::to_string(i)), depth + 1);
      }
    }
  }

  TensorMap take() { return std::move(tensors_); }

 private:
  void add(const std::string& name, const TensorRecord& tensor) {
    if (!tensors_.emplace(name, tensor).second) {
      throw InputError(origin_ + ": the tensor " + quoted(name) + " occurs twice");
    }
  }
  static std::string join(const std::string& name, const std::string& key) {
    return name.empty() ? key : name + "." + key;
  }
  std::string key_text(const PickleValue& key) const {
    if (const auto* text = std::get_if<std::string>(&key.content)) {
      return *text;
    }
    if (const auto* number = std::get_if<int64_t>(&key.content)) {
      return std::to_string(*number);
    }
    throw InputError(origin_ + ": a dictionary has a key that is neither text nor integer");
  }

  std::string origin_;
  TensorMap tensors_;
  size_t visits_ = 0;
  size_t name_bytes_ = 0;
};

// Returns "archive/" for the entry "archive/data.pkl".
std::string archive_root(const std::map<std::string, ZipEntry>& entries, const std::string& path) {
  const std::string pickle = "data.pkl";
  for (const auto& [name, entry] : entries) {
    const auto slash = name.find('/');
    if (slash != name.npos && name.substr(slash + 1) == pickle) {
      return name.substr(0, slash + 1);
    }
  }
  throw InputError(path + ": expected a PyTorch zip file, found a zip archive without data.pkl");
}

void check_byte_order(const std::map<std::string, ZipEntry>& entries, const std::string& root,
                      const std::string& path) {
  const auto found = entries.find(root + "byteorder");
  if (found == entries.end()) {
    return;  // before PyTorch 2.1, written by little-endian machines
  }
  const auto bytes = read_zip_entry(found->second, 64, path);
  const std::string order(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (order != "little") {
    throw InputError(path + ": expected little-endian data, found the byte order " + quoted(order));
  }
}

}  // namespace

TensorMap read_torch_file(const MappedFile& file) {
  const std::string& path = file.path();
  const auto entries = read_zip(file);
  const std::string root = archive_root(entries, path);
  check_byte_order(entries, root, path);
  const auto storages = [&](const std::string& key) {
    const auto found = entries.find(root + "data/" + key);
    if (found == entries.end()) {
      throw InputError(path + ": the storage " + quoted(key) + " is missing: the file is damaged");
    }
    if (!found->second.stored) {
      throw InputError(path + ": the storage " + quoted(key) +
                       " is compressed, expected a file as torch.save writes it");
    }
    return found->second.data;
  };
  const auto program =
      read_zip_entry(entries.at(root + "data.pkl"), kMaxPickleBytes, path + ": data.pkl");
  Unpickler unpickler(program, path, storages);
  Flattener flattener(path);
  flattener.visit(unpickler.run(), "", 0);
  return flattener.take();
}

bool looks_like_legacy_torch_file(std::span<const std::byte> bytes) {
  // A pickle of protocol 2 that starts with the integer 0x1950a86a20f9469cfc6c.
  constexpr std::array<unsigned char, 14> kMagic{0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c,
                                                 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
  return bytes.size() >= kMagic.size() &&
         std::equal(kMagic.begin(), kMagic.end(), bytes.begin(),
                    [](unsigned char a, std::byte b) { return std::byte{a} == b; });
}

}  // namespace ospnext
