//! The part of Ollama's interface that editors use.
