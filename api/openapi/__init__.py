"""The contract: parameters, bodies and responses of each route, and the OpenAPI document made of it."""
