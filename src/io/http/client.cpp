#include "io/http/client.h"

#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <utility>  // before Asio, whose 1.74 forgets it

#include "core/error.h"
#include "core/version.h"

namespace ospnext {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::use_awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Message = http::request<http::string_body>;
using Task = asio::awaitable<void>;

constexpr uint32_t kMostHeaderBytes = 64 << 10;
constexpr std::chrono::seconds kLongestConnect(10);  // to one place; the host may have others

// What is under way: `doing` becomes the sentence of a failure.
struct Exchange {
  Message message;
  size_t most;  // bytes of the answer's body
  const char* doing = "cannot be reached";
  ClientAnswer answer = {};
};

bool is_no_http(error_code error) {
  return error.category() == http::make_error_code(http::error::bad_version).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

template <class Stream>
Task write_and_read(Stream& stream, Exchange& exchange) {
  exchange.doing = "the connection was lost before the whole answer had come";
  co_await http::async_write(stream, exchange.message, use_awaitable);
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.header_limit(kMostHeaderBytes);
  parser.body_limit(exchange.most);
  error_code error;
  co_await http::async_read_header(stream, buffer, parser,
                                   asio::redirect_error(use_awaitable, error));
  if (!error && exchange.most > 0) {
    co_await http::async_read(stream, buffer, parser, asio::redirect_error(use_awaitable, error));
  }
  const bool is_longer = error == http::error::body_limit;
  if (error && !is_longer) {
    exchange.doing = is_no_http(error) ? "its answer is no HTTP" : exchange.doing;
    throw boost::system::system_error(error);
  }
  exchange.answer = {static_cast<int>(parser.get().result_int()), std::move(parser.get().body()),
                     is_longer};
}

Task connect(beast::tcp_stream& stream, const WebAddress& address) {
  tcp::resolver resolver(stream.get_executor());
  const auto places =
      co_await resolver.async_resolve(address.host, std::to_string(address.port), use_awaitable);
  stream.expires_after(kLongestConnect);
  co_await stream.async_connect(places, use_awaitable);
  stream.expires_never();  // who waits for the answer has the limit
}

Task talk(const WebAddress& address, Exchange& exchange) {
  const auto executor = co_await asio::this_coro::executor;
  if (!address.is_secure) {
    beast::tcp_stream stream(executor);
    co_await connect(stream, address);
    co_await write_and_read(stream, exchange);
    co_return;
  }
  asio::ssl::context context(asio::ssl::context::tls_client);
  context.set_default_verify_paths();
  context.set_verify_mode(asio::ssl::verify_peer);
  beast::ssl_stream<beast::tcp_stream> stream(executor, context);
  stream.set_verify_callback(asio::ssl::host_name_verification(address.host));
  error_code is_name;
  asio::ip::make_address(address.host, is_name);
  if (is_name) {  // a server with many certificates chooses by it
    SSL_set_tlsext_host_name(stream.native_handle(), address.host.c_str());
  }
  co_await connect(beast::get_lowest_layer(stream), address);
  exchange.doing = "cannot be reached over https";
  co_await stream.async_handshake(asio::ssl::stream_base::client, use_awaitable);
  co_await write_and_read(stream, exchange);
}

Message message_of(const ClientRequest& request) {
  Message message(http::string_to_verb(request.method), request.address.target, 11);
  message.set(http::field::host, request.address.authority());
  message.set(http::field::user_agent, std::string("ospnext/") + kVersion);
  message.set(http::field::connection, "close");
  for (const auto& [name, value] : request.headers) {
    message.set(name, value);
  }
  if (!request.json.empty()) {
    message.set(http::field::content_type, "application/json");
    message.body() = request.json;
  }
  message.prepare_payload();
  return message;
}

}  // namespace

ClientAnswer send_request(const ClientRequest& request, const ClientLimits& limits,
                          const CancellationToken& cancel) {
  constexpr Clock::duration kPoll = std::chrono::milliseconds(20);
  const auto limit = Clock::now() + limits.time;
  Exchange exchange{message_of(request), limits.bytes};
  bool is_over = false;
  std::exception_ptr failure;
  asio::io_context context(1);  // the last: its end destroys what still uses the others
  asio::co_spawn(context, talk(request.address, exchange), [&](const std::exception_ptr& thrown) {
    failure = thrown;
    is_over = true;
  });
  while (!is_over) {
    cancel.check();
    const auto now = Clock::now();
    if (now >= limit) {
      throw RunError("no answer came in time");
    }
    context.run_for(std::min(kPoll, limit - now));
  }
  try {
    if (failure != nullptr) {
      std::rethrow_exception(failure);
    }
  } catch (const boost::system::system_error& error) {
    throw RunError(std::string(exchange.doing) + ": " + error.code().message());
  }
  return std::move(exchange.answer);
}

}  // namespace ospnext
