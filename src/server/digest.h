// SHA-256, and comparison that tells nothing by its time.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ospnext {

// The digest of `text` as 64 hexadecimal digits in lower case.
std::string sha256_hex(std::string_view text);

// The keyed digest (HMAC) as 32 bytes.
std::string hmac_sha256(std::string_view key, std::string_view text);

// The bytes of a text that base64() gives (core/base64.h); nothing for another.
std::optional<std::string> bytes_of_base64(std::string_view text);

// Takes a time that depends on the lengths alone.
bool equal_in_constant_time(std::string_view a, std::string_view b);

// `bytes` random bytes from the system, as hexadecimal digits.
std::string random_hex(int bytes);

}  // namespace ospnext
