//! OpenAI's completions.
