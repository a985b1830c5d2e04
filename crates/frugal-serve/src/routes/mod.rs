//! One file a route.
