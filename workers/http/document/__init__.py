"""The OpenAPI document: error responses, examples and links, from the registered refusals and routes."""
