// The description of the API, made of its routes and of the list of fields.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "server/http/router.h"
#include "server/video_request.h"

namespace ospnext {

// A document of OpenAPI 3.0. Without keys it asks for none.
nlohmann::json openapi_document(const std::vector<Route>& routes, const RequestLimits& limits,
                                const ModelCard& model, bool has_keys);

}  // namespace ospnext
