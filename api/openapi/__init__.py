"""The contract: what each route takes and responds with, and the OpenAPI document made of it."""
