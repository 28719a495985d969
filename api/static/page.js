// The page's entry point. The page uses the public API only: /session, POST /v1/images, then GET /v1/events or
// GET /v1/jobs/ID?wait=..., and /readyz if the wait is long; GET /v1/cameras for the states of cameras.
//
//   page > session > camera > files > uploads > cards > thumbnails, counts, gateways > items, api, events > notices > dom
//
// Each module imports only modules to its right.

import { loadSession } from "./session.js";

void loadSession();
