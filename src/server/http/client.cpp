#include "server/http/client.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <chrono>
#include <utility>  // before Asio, whose 1.74 forgets it

#include "core/error.h"

namespace ospnext {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::use_awaitable;
using Message = http::request<http::string_body>;

constexpr size_t kMostAnswer = 64 << 10;  // bytes, of which only the status is read

template <class Stream>
asio::awaitable<int> exchange(Stream& stream, Message message) {
  co_await http::async_write(stream, message, use_awaitable);
  beast::flat_buffer buffer;
  http::response_parser<http::empty_body> parser;
  parser.header_limit(kMostAnswer);
  co_await http::async_read_header(stream, buffer, parser, use_awaitable);
  co_return parser.get().result_int();
}

asio::awaitable<int> post(const WebAddress& address, Message message,
                          std::chrono::seconds patience) {
  const auto executor = co_await asio::this_coro::executor;
  asio::ip::tcp::resolver resolver(executor);
  const auto places =
      co_await resolver.async_resolve(address.host, std::to_string(address.port), use_awaitable);
  if (!address.is_secure) {
    beast::tcp_stream stream(executor);
    stream.expires_after(patience);
    co_await stream.async_connect(places, use_awaitable);
    co_return co_await exchange(stream, std::move(message));
  }
  asio::ssl::context context(asio::ssl::context::tls_client);
  context.set_default_verify_paths();
  context.set_verify_mode(asio::ssl::verify_peer);
  beast::ssl_stream<beast::tcp_stream> stream(executor, context);
  stream.set_verify_callback(asio::ssl::host_name_verification(address.host));
  SSL_set_tlsext_host_name(stream.native_handle(), address.host.c_str());
  beast::get_lowest_layer(stream).expires_after(patience);
  co_await beast::get_lowest_layer(stream).async_connect(places, use_awaitable);
  co_await stream.async_handshake(asio::ssl::stream_base::client, use_awaitable);
  co_return co_await exchange(stream, std::move(message));
}

}  // namespace

int post_json(const WebAddress& address,
              const std::vector<std::pair<std::string, std::string>>& headers,
              const std::string& body, int patience_s) {
  Message message(http::verb::post, address.target, 11);
  message.set(http::field::host, address.host + ":" + std::to_string(address.port));
  message.set(http::field::content_type, "application/json");
  message.set(http::field::connection, "close");
  for (const auto& [name, value] : headers) {
    message.set(name, value);
  }
  message.body() = body;
  message.prepare_payload();
  asio::io_context context(1);
  int status = 0;
  std::exception_ptr failure;
  asio::co_spawn(context, post(address, std::move(message), std::chrono::seconds(patience_s)),
                 [&](const std::exception_ptr& thrown, int answered) {
                   failure = thrown;
                   status = answered;
                 });
  context.run_for(std::chrono::seconds(patience_s + 1));  // looking up a name has no limit itself
  if (failure == nullptr && status == 0) {
    throw RunError(address.host + ": no answer");
  }
  try {
    if (failure != nullptr) {
      std::rethrow_exception(failure);
    }
  } catch (const boost::system::system_error& error) {
    throw RunError(address.host + ": " + error.code().message());
  }
  return status;
}

}  // namespace ospnext
