//! Reading fields of a request: each is taken by name, and what is left over is refused.
