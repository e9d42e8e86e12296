#include "server/http/server.h"

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <thread>
#include <utility>  // before Asio, whose 1.74 forgets it

#include "core/error.h"

namespace ospnext {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::use_awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;
using std::chrono::seconds;
template <class T>
using Task = asio::awaitable<T>;
using Parser = http::request_parser<http::string_body>;

constexpr size_t kPieceBytes = 64 << 10;  // of a file
constexpr milliseconds kEventPause(200);
constexpr seconds kHeartbeat(15);  // of a stream of events, so that proxies keep it open

int status_of(error_code error) {
  return error == http::error::body_limit ? 413 : error == http::error::header_limit ? 431 : 400;
}

// Why a request must not be read: what is unclear in it. "" if nothing is.
std::string unclear_framing(const Parser::value_type& request) {
  const auto has_two = [&](http::field name) {
    const auto [first, last] = request.equal_range(name);
    return first != last && std::next(first) != last;
  };
  if (has_two(http::field::content_length) || has_two(http::field::transfer_encoding)) {
    return "found the length of the body twice";
  }
  const bool is_chunked = request.find(http::field::transfer_encoding) != request.end();
  if (is_chunked && request.find(http::field::content_length) != request.end()) {
    return "found Content-Length and Transfer-Encoding, expected one of them";
  }
  if (is_chunked && (request.version() < 11 ||
                     !beast::iequals(request[http::field::transfer_encoding], "chunked"))) {
    return "found another Transfer-Encoding than chunked";
  }
  if (has_two(http::field::host) ||
      (request.version() >= 11 && request.find(http::field::host) == request.end())) {
    return "expected one header Host";
  }
  return "";
}

std::string text_of(beast::string_view text) {
  return {text.data(), text.size()};
}

// The head of a request. False if its target is none.
bool read_head(const Parser::value_type& message, HttpRequest& request) {
  request.method = text_of(message.method_string());
  for (const auto& field : message) {
    std::string name = text_of(field.name_string());
    for (char& letter : name) {
      letter = letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 'a' - 'A') : letter;
    }
    std::string& value = request.headers[name];
    value += (value.empty() ? "" : ", ") + text_of(field.value());
  }
  return split_target(text_of(message.target()), request);
}

// One client. Lives as long as its connection.
class Connection {
 public:
  Connection(tcp::socket socket, const HttpLimits& limits, HttpApplication& application)
      : stream_(std::move(socket)), limits_(limits), application_(application) {}

  Task<void> refuse_for_lack_of_room() {
    HttpResponse response = application_.malformed(503, "the server has too many connections");
    response.headers.emplace_back("Retry-After", "5");
    co_await send(std::move(response), HttpRequest(), /*keeps=*/false);
    co_await close();
  }

  Task<void> serve() {
    bool keeps = true;
    while (keeps) {
      keeps = co_await serve_one();
    }
    co_await close();
  }

 private:
  // Returns whether a further request may come.
  Task<bool> serve_one() {
    error_code error;
    if (buffer_.size() == 0) {
      stream_.expires_after(seconds(limits_.idle_seconds));
      const size_t read = co_await stream_.async_read_some(
          buffer_.prepare(kPieceBytes), asio::redirect_error(use_awaitable, error));
      buffer_.commit(read);
      if (error) {
        co_return false;
      }
    }
    Parser parser;
    parser.header_limit(static_cast<uint32_t>(limits_.header_bytes));
    parser.body_limit(limits_.body_bytes);
    HttpRequest request;
    std::optional<HttpResponse> refusal = co_await read(parser, request);
    if (is_gone_) {
      co_return false;
    }
    // What a refusal left unread would be taken for the next request.
    const bool keeps = !refusal && parser.get().keep_alive();
    HttpResponse response = refusal ? std::move(*refusal) : application_.answer(request);
    co_return co_await send(std::move(response), request, keeps) && keeps;
  }

  // Reads a request. Returns a refusal, or sets is_gone_, if there is none to answer.
  Task<std::optional<HttpResponse>> read(Parser& parser, HttpRequest& request) {
    error_code error;
    stream_.expires_after(seconds(limits_.header_seconds));
    co_await http::async_read_header(stream_, buffer_, parser,
                                     asio::redirect_error(use_awaitable, error));
    if (!error) {
      const std::string unclear = unclear_framing(parser.get());
      if (!unclear.empty()) {
        co_return application_.malformed(400, unclear);
      }
      if (!read_head(parser.get(), request)) {
        co_return application_.malformed(400, "the target of the request is malformed");
      }
      if (auto refusal = application_.refuse(request)) {
        co_return refusal;
      }
      co_await read_body(parser, error);
    }
    // A stream that ran out of time is closed already.
    if (error == beast::error::timeout || error == http::error::end_of_stream ||
        error == http::error::partial_message ||
        (error && error.category() == asio::error::get_system_category())) {
      is_gone_ = true;
      co_return std::nullopt;
    }
    if (error) {
      co_return application_.malformed(status_of(error),
                                       "the request is malformed or too large: " + error.message());
    }
    request.body = std::move(parser.get().body());
    co_return std::nullopt;
  }

  Task<void> read_body(Parser& parser, error_code& error) {
    stream_.expires_after(seconds(limits_.body_seconds));
    if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      co_await asio::async_write(stream_, asio::buffer(kContinue),
                                 asio::redirect_error(use_awaitable, error));
    }
    if (!error && !parser.is_done()) {
      co_await http::async_read(stream_, buffer_, parser,
                                asio::redirect_error(use_awaitable, error));
    }
  }

  // Returns whether all was sent and its end can be seen by the client.
  Task<bool> send(HttpResponse response, const HttpRequest& request, bool keeps) {
    const auto* const text = std::get_if<std::string>(&response.body);
    auto* const file = std::get_if<FilePart>(&response.body);
    const bool is_stream = text == nullptr && file == nullptr;
    http::response<http::empty_body> head(static_cast<http::status>(response.status), 11);
    for (const auto& [name, value] : response.headers) {
      head.insert(name, value);
    }
    if (!is_stream) {
      head.set(http::field::content_length,
               std::to_string(text != nullptr ? text->size() : file->length));
    }
    keeps = keeps && !is_stream;
    head.set(http::field::connection, keeps ? "keep-alive" : "close");
    stream_.expires_after(seconds(limits_.write_seconds));
    http::response_serializer<http::empty_body> serializer(head);
    error_code error;
    co_await http::async_write_header(stream_, serializer,
                                      asio::redirect_error(use_awaitable, error));
    if (error || request.method == "HEAD") {
      co_return !error;
    }
    if (text != nullptr) {
      co_return co_await send_text(*text);
    }
    if (file != nullptr) {
      co_return co_await send_file(*file);
    }
    co_return co_await send_events(std::get<EventSource>(response.body));
  }

  Task<bool> send_text(const std::string& text) {
    error_code error;
    for (size_t sent = 0; sent < text.size() && !error;) {
      stream_.expires_after(seconds(limits_.write_seconds));
      const size_t count = std::min(kPieceBytes, text.size() - sent);
      sent += co_await asio::async_write(stream_, asio::buffer(text.data() + sent, count),
                                         asio::redirect_error(use_awaitable, error));
    }
    co_return !error;
  }

  Task<bool> send_file(const FilePart& part) {
    std::string piece;
    part.file->seekg(static_cast<std::streamoff>(part.begin));
    for (uint64_t left = part.length; left > 0; left -= piece.size()) {
      piece.resize(std::min<uint64_t>(kPieceBytes, left));
      if (!part.file->read(piece.data(), static_cast<std::streamsize>(piece.size())) ||
          !co_await send_text(piece)) {
        co_return false;
      }
    }
    co_return true;
  }

  // A stream ends with its connection.
  Task<bool> send_events(const EventSource& next) {
    asio::steady_timer timer(stream_.get_executor());
    auto last = std::chrono::steady_clock::now();
    while (std::optional<std::string> text = next()) {
      if (text->empty() && std::chrono::steady_clock::now() - last > kHeartbeat) {
        *text = ": still here\n\n";
      }
      if (!text->empty()) {
        last = std::chrono::steady_clock::now();
        if (!co_await send_text(*text)) {
          break;
        }
      }
      timer.expires_after(kEventPause);
      co_await timer.async_wait(use_awaitable);
    }
    co_return false;
  }

  // Lets the client read the answer before what it still sends is refused.
  Task<void> close() {
    constexpr size_t kMostDropped = 4 << 20;
    error_code error;
    stream_.socket().shutdown(tcp::socket::shutdown_send, error);
    stream_.expires_after(seconds(2));
    for (size_t dropped = 0; !error && dropped < kMostDropped;) {
      buffer_.clear();
      dropped += co_await stream_.async_read_some(buffer_.prepare(kPieceBytes),
                                                  asio::redirect_error(use_awaitable, error));
    }
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  const HttpLimits& limits_;
  HttpApplication& application_;
  bool is_gone_ = false;
};

tcp::endpoint endpoint_of(const std::string& address, uint16_t port) {
  error_code error;
  const auto parsed = asio::ip::make_address(address, error);
  if (error) {
    throw InputError("`host`: found \"" + address + "\", expected an address such as 127.0.0.1");
  }
  return {parsed, port};
}

}  // namespace

struct HttpServer::State {
  State(int threads, const HttpLimits& limits, HttpApplication& application)
      : limits(limits), application(application), context(threads), acceptor(context) {}

  void listen(const tcp::endpoint& endpoint) {
    try {
      acceptor.open(endpoint.protocol());
      acceptor.set_option(asio::socket_base::reuse_address(true));
      acceptor.bind(endpoint);
      acceptor.listen();
    } catch (const boost::system::system_error& error) {
      throw InputError("`port`: cannot listen on " + endpoint.address().to_string() + " port " +
                       std::to_string(endpoint.port()) + ": " + error.code().message());
    }
  }

  Task<void> accept() {
    for (;;) {
      error_code error;
      tcp::socket socket = co_await acceptor.async_accept(
          asio::make_strand(context), asio::redirect_error(use_awaitable, error));
      if (!error) {
        const auto executor = socket.get_executor();
        asio::co_spawn(executor, serve(std::move(socket)), asio::detached);
      } else {  // such as too many open files
        asio::steady_timer timer(context, milliseconds(100));
        co_await timer.async_wait(use_awaitable);
      }
    }
  }

  Task<void> serve(tcp::socket socket) {
    const int number = ++connections;
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    try {
      Connection connection(std::move(socket), limits, application);
      if (number > limits.connections) {
        co_await connection.refuse_for_lack_of_room();
      } else {
        co_await connection.serve();
      }
    } catch (const std::exception&) {
      // the client has gone, or the source of a stream has failed: the connection ends
    }
    --connections;
  }

  HttpLimits limits;
  HttpApplication& application;
  asio::io_context context;
  tcp::acceptor acceptor;
  std::atomic<int> connections{0};
  std::vector<std::thread> threads;
};

HttpServer::HttpServer(const std::string& address, uint16_t port, int threads,
                       const HttpLimits& limits, HttpApplication& application)
    : state_(std::make_unique<State>(threads, limits, application)) {
  state_->listen(endpoint_of(address, port));
  asio::co_spawn(state_->context, state_->accept(), asio::detached);
  for (int i = 0; i < threads; ++i) {
    state_->threads.emplace_back([this] { state_->context.run(); });
  }
}

HttpServer::~HttpServer() {
  state_->context.stop();
  for (std::thread& thread : state_->threads) {
    thread.join();
  }
}

uint16_t HttpServer::port() const {
  return state_->acceptor.local_endpoint().port();
}

}  // namespace ospnext
