"""The OpenAPI document: error responses from the registered refusals, examples, links, and the roles of each route."""
