// The HTTP client: what it sends, how much it reads, and every way in which a server fails it.
#include "io/http/client.h"

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <thread>

#include "support/canned_server.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

namespace asio = boost::asio;
using Requests = std::vector<CannedServer::Request>;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr ClientLimits kLimits = {.time = seconds(20), .bytes = 1000};

ClientAnswer get(const std::string& url, const ClientLimits& limits = kLimits) {
  return send_request({.address = parse_url(url).value()}, limits);
}

std::string failure_of(const std::string& url, const ClientLimits& limits = kLimits) {
  try {
    get(url, limits);
  } catch (const RunError& error) {
    return error.what();
  }
  return "none";
}

TEST(HttpClient, SendsARequestAndGivesTheAnswer) {
  const CannedServer server([](const Requests&) { return http_answer("{}", "201 Created"); });
  const ClientAnswer answer = send_request({.address = parse_url(server.url() + "/a?b=1").value(),
                                            .method = "POST",
                                            .headers = {{"X-Name", "value"}},
                                            .json = "[1, 2]"},
                                           kLimits);
  EXPECT_EQ(answer.status, 201);
  EXPECT_EQ(answer.body, "{}");
  EXPECT_FALSE(answer.is_longer);
  get(server.url());
  ASSERT_EQ(server.requests().size(), 2u);
  const CannedServer::Request posted = server.requests()[0], got = server.requests()[1];
  EXPECT_EQ(posted.line, "POST /a?b=1 HTTP/1.1");
  EXPECT_EQ(posted.body, "[1, 2]");
  for (const std::string& header :
       {"Host: " + server.url().substr(7), std::string("X-Name: value"),
        std::string("Content-Type: application/json"), std::string("Connection: close")}) {
    EXPECT_NE((posted.headers + "\r\n").find(header + "\r\n"), std::string::npos) << header;
  }
  EXPECT_EQ(got.line, "GET / HTTP/1.1");
  EXPECT_EQ(got.headers.find("Content-"), std::string::npos) << got.headers;
}

TEST(HttpClient, ReadsNoMoreThanItMay) {
  const std::string chunk = "3e8\r\n" + std::string(1000, 'x') + "\r\n";
  const std::vector<std::string> answers = {
      http_answer(std::string(1001, 'x')),
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + chunk + "0\r\n\r\n",
      "HTTP/1.1 200 OK\r\n\r\n" + std::string(1001, 'x')};
  for (const std::string& text : answers) {
    const CannedServer server([&](const Requests&) { return text; });
    const ClientAnswer longer = get(server.url());
    EXPECT_EQ(longer.status, 200) << text;
    EXPECT_TRUE(longer.is_longer) << text;
    EXPECT_LE(longer.body.size(), 1000u) << text;
    EXPECT_EQ(get(server.url(), {seconds(20), 2000}).body.substr(0, 1001), std::string(1001, 'x'));
  }
}

TEST(HttpClient, DoesNotWaitForABodyThatItMayNotRead) {
  for (const char* const head : {"Content-Length: 5", "Transfer-Encoding: chunked", "X: y"}) {
    const CannedServer server([&](const Requests&) {
      return std::string("HTTP/1.1 204 No Content\r\n") + head + "\r\n\r\n";
    });
    const ClientAnswer answer = get(server.url(), {seconds(20), 0});
    EXPECT_EQ(answer.status, 204) << head;
    EXPECT_EQ(answer.body, "");
  }
}

TEST(HttpClient, SaysWhatFailed) {
  std::string nobody;
  {
    const CannedServer server([](const Requests&) { return ""; });
    EXPECT_TRUE(failure_of(server.url())
                    .starts_with("the connection was lost before the whole answer had come: "));
    nobody = server.url();
  }
  EXPECT_EQ(failure_of(nobody), "cannot be reached: Connection refused");
  EXPECT_TRUE(
      failure_of("http://no-such-host.invalid").starts_with("cannot be reached: Host not found"));
  for (const std::string& text :
       {std::string("220 mail\r\n\r\n"), "HTTP/1.1 200 OK\r\nA: " + std::string(70'000, 'x')}) {
    const CannedServer server([&](const Requests&) { return text; });
    EXPECT_TRUE(failure_of(server.url()).starts_with("its answer is no HTTP: "))
        << failure_of(server.url());
  }
}

TEST(HttpClient, WaitsNoLongerThanItsTimeOrTheJob) {
  const CannedServer slow([](const Requests&) {
    std::this_thread::sleep_for(seconds(1));
    return "";
  });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(failure_of(slow.url(), {milliseconds(200), 1000}), "no answer came in time");
  CancellationToken cancel;
  std::thread later([&] {
    std::this_thread::sleep_for(milliseconds(200));
    cancel.cancel();
  });
  EXPECT_THROW(send_request({.address = parse_url(slow.url()).value()}, kLimits, cancel),
               Cancelled);
  later.join();
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(900));
}

// A certificate of "localhost" that is its own authority, and its key, as PEM.
std::string self_signed_certificate() {
  EVP_PKEY* const key = EVP_EC_gen("P-256");
  X509* const certificate = X509_new();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  X509_NAME* const name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  X509_EXTENSION* const names =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:localhost");
  X509_add_ext(certificate, names, -1);
  X509_sign(certificate, key, EVP_sha256());
  BIO* const pem = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(pem, certificate);
  PEM_write_bio_PrivateKey(pem, key, nullptr, nullptr, 0, nullptr, nullptr);
  char* bytes = nullptr;
  const auto size = static_cast<size_t>(BIO_get_mem_data(pem, &bytes));
  std::string text(bytes, size);
  BIO_free(pem);
  X509_EXTENSION_free(names);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return text;
}

// Answers `count` connections over TLS, one after the other, where the client trusts it.
class TlsServer {
 public:
  TlsServer(const std::string& pem, int count)
      : acceptor_(context_, {asio::ip::make_address("127.0.0.1"), 0}) {
    tls_.use_certificate_chain(asio::buffer(pem));
    tls_.use_private_key(asio::buffer(pem), asio::ssl::context::pem);
    thread_ = std::thread([this, count] {
      for (int i = 0; i < count; ++i) {
        answer();
      }
    });
  }
  ~TlsServer() { thread_.join(); }
  TlsServer(const TlsServer&) = delete;
  TlsServer& operator=(const TlsServer&) = delete;

  std::string url(const std::string& host) const {
    return "https://" + host + ":" + std::to_string(acceptor_.local_endpoint().port());
  }

 private:
  void answer() {
    asio::ssl::stream<asio::ip::tcp::socket> stream(acceptor_.accept(), tls_);
    boost::system::error_code error;
    stream.handshake(asio::ssl::stream_base::server, error);
    std::string request;
    asio::read_until(stream, asio::dynamic_buffer(request), "\r\n\r\n", error);
    if (!error) {
      asio::write(stream, asio::buffer(http_answer("secret")), error);
    }
  }

  asio::io_context context_;
  asio::ssl::context tls_{asio::ssl::context::tls_server};
  asio::ip::tcp::acceptor acceptor_;
  std::thread thread_;
};

TEST(HttpClient, TrustsAnHttpsServerByItsCertificateAndItsName) {
  const TemporaryFolder folder;
  const std::string pem = self_signed_certificate(), file = (folder / "trusted.pem").string();
  write_file(file, pem);
  const TlsServer server(pem, 3);
  EXPECT_NE(failure_of(server.url("localhost")).find("cannot be reached over https: cert"),
            std::string::npos);
  ::setenv("SSL_CERT_FILE", file.c_str(), 1);
  EXPECT_EQ(get(server.url("localhost")).body, "secret");
  EXPECT_NE(failure_of(server.url("127.0.0.1")).find("cannot be reached over https: cert"),
            std::string::npos);
  ::unsetenv("SSL_CERT_FILE");
}

}  // namespace
}  // namespace ospnext
