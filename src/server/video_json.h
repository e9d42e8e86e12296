// Videos and errors as clients see them.
#pragma once

#include <nlohmann/json.hpp>

#include "server/api_error.h"
#include "server/http/message.h"
#include "server/job_store.h"

namespace ospnext {

// The object "video" of OpenAI's API, with what the settings add to it.
nlohmann::json video_object(const Job& job, const Outlook& outlook);

// An answer in JSON, which nobody keeps.
HttpResponse json_response(const nlohmann::json& body, int status = 200);
// The same, with when to ask again while the video is not finished.
HttpResponse video_response(const Job& job, const Outlook& outlook, int status = 200);
// {"error": {"message", "type", "param", "code"}}
HttpResponse error_response(const ApiError& error);

}  // namespace ospnext
