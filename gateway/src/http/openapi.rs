//! The description of the HTTP surface, as served at `/openapi.json`. A test holds it to the routes.

/// OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("openapi.json");
